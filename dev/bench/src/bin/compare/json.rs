//! The results for a machine: every round, nothing condensed.

use serde_json::{Map, Value, json};

use crate::{
    goals::{Bound, Goal, judge},
    results::{Results, Round},
};

// === impl Results ===

impl Results {
    /// One object; the names say the units.
    pub(crate) fn to_json(&self) -> Value {
        let floor: Map<_, _> = self
            .floor
            .iter()
            .map(|(engine, rounds)| {
                let p50: Vec<_> = rounds.iter().map(|it| it.value_at_quantile(0.5)).collect();
                ((*engine).to_owned(), json!({ "p50_us": p50 }))
            })
            .collect();
        let cold_starts: Map<_, _> = self
            .cold_starts
            .iter()
            .map(|(variant, starts)| {
                let millis: Vec<_> = starts.iter().map(|it| it.map(|it| it.as_secs_f64() * 1e3)).collect();
                (variant.clone(), json!({ "gateway_and_worker_ms": millis }))
            })
            .collect();
        json!({
            "machine": self.machine.to_json(),
            "judged": self.judged,
            "goals": judge(self).iter().map(goal).collect::<Vec<_>>(),
            "notes": self.notes,
            "budget": self.budget,
            "floor": floor,
            "cold_starts": cold_starts,
            "at_rest_bytes": self.at_rest,
            "rounds": self.rounds.iter().map(round).collect::<Vec<_>>(),
        })
    }
}

fn goal(goal: &Goal) -> Value {
    let (comparison, bound) = match goal.bound {
        Bound::AtMost(bound) => ("at_most", bound),
        Bound::AtLeast(bound) => ("at_least", bound),
    };
    json!({
        "name": goal.name,
        comparison: bound,
        "measured": goal.measured.map(|it| it.median),
        "least": goal.measured.map(|it| it.least),
        "most": goal.measured.map(|it| it.most),
        "unit": goal.unit,
        "met": goal.is_met(),
    })
}

fn round(round: &Round) -> Value {
    let costs: Map<_, _> = round
        .costs
        .iter()
        .map(|(role, cost)| {
            let cost = json!({
                "cpu_ms": cost.cpu.as_secs_f64() * 1e3,
                "cpu_us_per_answer": round.cpu_us(*role),
                "resident_bytes": cost.resident,
                "peak_bytes": cost.peak,
            });
            (role.as_str().to_owned(), cost)
        })
        .collect();
    json!({
        "variant": round.variant,
        "load": round.shape.to_string(),
        "beside": round.beside,
        "report": round.report.to_json(),
        "processes": costs,
    })
}
