//! Figure 7: one decision of a compiled policy.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use shuyu_base::{Did, UnixMillis};
use shuyu_policy::{
    Action, Constraint, LeftOperand, Operand, Operator, Policy, PolicyKind, Request, Rule, Usage, compile, evaluate,
};

use crate::Effort;
use crate::figure::{Aim, Report};
use crate::measure::median;

const ASSET: &str = "urn:asset:1";
const CONSUMER: &str = "did:web:consumer.example";
const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

/// A contract of eight constraints, as a city would write it.
fn contract() -> Result<Policy> {
    let text = |text: &str| Operand::Text(text.to_owned());
    let list = |texts: &[&str]| Operand::List(texts.iter().map(|text| (*text).to_owned()).collect());
    let constraints = vec![
        Constraint::new(LeftOperand::Purpose, Operator::IsA, text("research")),
        Constraint::new(LeftOperand::Recipient, Operator::Eq, text(CONSUMER)),
        Constraint::new(LeftOperand::Spatial, Operator::IsPartOf, text("CN")),
        Constraint::new(LeftOperand::DateTime, Operator::Gteq, Operand::Time(UnixMillis(0))),
        Constraint::new(LeftOperand::DateTime, Operator::Lteq, Operand::Time(UnixMillis(i64::MAX))),
        Constraint::new(LeftOperand::Count, Operator::Lteq, Operand::Count(1000)),
        Constraint::new(LeftOperand::RowCount, Operator::Lteq, Operand::Count(1_000_000_000)),
        Constraint::new(LeftOperand::DeliveryFormat, Operator::IsAnyOf, list(&["flight", "parquet", "csv"])),
    ];
    Ok(Policy {
        assigner: Some("did:web:holder.example".parse()?),
        assignee: Some(CONSUMER.parse()?),
        target: Some(ASSET.to_owned()),
        permissions: vec![Rule { constraints, ..Rule::new(Action::Use) }],
        ..Policy::new("urn:agreement:1", PolicyKind::Agreement)
    })
}

fn request(consumer: &Did, used: u64) -> Request {
    Request {
        purpose: Some("research/climate".to_owned()),
        place: Some("CN-SH".to_owned()),
        format: Some("flight".to_owned()),
        used: Usage { count: used, rows: used, bytes: used },
        ..Request::new(NOW, Action::Read, ASSET, consumer.clone())
    }
}

/// Measures and reports.
pub fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let policy = contract()?;
    let program = compile(&policy)?;
    let consumer: Did = CONSUMER.parse()?;
    let ready = request(&consumer, 1);
    ensure!(program.permits(&ready).is_permit(), "the sample contract does not permit its use");
    let times = effort.pick(200_000, 20_000);
    let mut found: [Vec<f64>; 4] = Default::default();
    for _ in 0..effort.pick(9, 3) {
        let nanoseconds = [
            each(times, |n| program.permits(&request(&consumer, n % 7))),
            each(times, |_| program.permits(black_box(&ready))),
            each(times / 10, |_| program.decide(black_box(&ready))),
            each(times / 10, |_| evaluate(&policy, black_box(&ready))),
        ];
        found.iter_mut().zip(nanoseconds).for_each(|(all, one)| all.push(one / 1e3));
    }
    let [with_request, alone, explained, interpreted] = &found;
    report.add(7, "decision of 8 constraints, request built each time", median(with_request), "us", Aim::AtMost(1.0));
    report.add(7, "the decision alone", median(alone), "us", Aim::None);
    report.add(7, "with its explanation and data plan", median(explained), "us", Aim::None);
    report.add(7, "the interpreter, the program's specification", median(interpreted), "us", Aim::None);
    Ok(())
}

/// Nanoseconds of one of many.
fn each<T>(times: u64, mut work: impl FnMut(u64) -> T) -> f64 {
    let begun = Instant::now();
    (0..times).for_each(|n| drop(black_box(work(n))));
    begun.elapsed().as_nanos() as f64 / times as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_contract_decides_by_each_constraint() {
        let policy = contract().unwrap();
        assert_eq!(policy.permissions[0].constraints.len(), 8);
        let program = compile(&policy).unwrap();
        let consumer: Did = CONSUMER.parse().unwrap();
        assert!(program.permits(&request(&consumer, 1)).is_permit());
        assert!(!program.permits(&request(&consumer, 1000)).is_permit());
        let elsewhere = Request { place: Some("DE".to_owned()), ..request(&consumer, 1) };
        assert!(!program.permits(&elsewhere).is_permit());
    }
}
