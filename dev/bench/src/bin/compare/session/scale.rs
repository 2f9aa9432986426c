//! The sizes of a fleet in turn, asked the same.

use anyhow::{Context, Result};

use super::{Session, say};
use crate::{
    scale::{SIZES, asks, judged_ratios, name},
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
        let asks = asks(capacity);
        self.results.scale = Some(asks);
        let others = self.variants.len();
        let mut fleets = Vec::new();
        for size in SIZES {
            let setup = Setup::Fleet {
                directory: self.judged_directory()?,
                size,
            };
            let fleet = Variant::start(&name(size), &setup, self.engines.first(), self.scratch).await?;
            fleets.push((size, self.variants.len()));
            self.variants.push(fleet);
        }
        for round in 0..self.plan.scale_rounds {
            say(&format!("scale, round {} of {}", round + 1, self.plan.scale_rounds));
            let mut measured = Vec::new();
            for ask in asks {
                for (size, index) in &fleets {
                    let what = (*index, ask.of(*size));
                    if !measured.contains(&what) {
                        self.measure(what.0, what.1, None).await?;
                        measured.push(what);
                    }
                }
            }
            // Each comes first in its turn: who does has the machine as another load left it.
            fleets.rotate_left(1);
        }
        self.variants.truncate(others);
        if judged_ratios(&self.results).contains(&None) {
            let note = "Scale is not judged by every rate: not all fleets carried it.";
            self.results.notes.push(note.to_owned());
        }
        Ok(())
    }
}
