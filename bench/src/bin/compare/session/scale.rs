//! The sizes of a fleet in turn, each at the same loads.

use anyhow::{Context, Result};

use super::{Session, say};
use crate::{
    plan::Shape,
    scale::{CONNECTIONS, SHARE_PERCENT, SIZES, judged_ratio, name},
    variant::{Setup, Variant},
};

// === impl Session ===

impl Session<'_> {
    /// The fleets are there only as long as it takes: they would have their part of the machine, idle as they are.
    pub(super) async fn scale(&mut self) -> Result<()> {
        if self.plan.scale_rounds == 0 {
            return Ok(());
        }
        let capacity = self.results.capacity(&self.results.judged).context("a capacity")?;
        self.results.scale = vec![rate(capacity), Shape::Closed(CONNECTIONS)];
        let others = self.variants.len();
        let mut fleets = Vec::new();
        for size in SIZES {
            let setup = Setup::Fleet {
                directory: self.judged_directory()?,
                size,
            };
            let fleet = Variant::start(&name(size), &setup, self.engines.first(), self.scratch).await?;
            fleets.push(self.variants.len());
            self.variants.push(fleet);
        }
        for round in 0..self.plan.scale_rounds {
            say(&format!("scale, round {} of {}", round + 1, self.plan.scale_rounds));
            for shape in self.results.scale.clone() {
                for index in &fleets {
                    self.measure(*index, shape, false).await?;
                }
            }
            // Each comes first in its turn: who does has the machine as another load left it.
            fleets.rotate_left(1);
        }
        self.variants.truncate(others);
        if judged_ratio(&self.results).is_none() {
            let note = "Scale is not judged: not all fleets carried the rate.";
            self.results.notes.push(note.to_owned());
        }
        Ok(())
    }
}

/// One that all sizes should carry.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "requests per second of one machine, and above zero"
)]
fn rate(capacity: f64) -> Shape {
    Shape::Rate((capacity * f64::from(SHARE_PERCENT) / 100.0).ceil() as u32)
}
