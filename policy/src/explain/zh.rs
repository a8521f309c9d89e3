//! The Chinese words.

use super::{Heading, Words};
use crate::evaluate::{Outcome, Reason, Why};
use crate::mask::Mask;
use crate::model::{Conflict, Group, PolicyKind};
use crate::terms::{Action, LeftOperand, Operator};

pub(super) const WORDS: Words = Words {
    heading,
    permits: "允许：",
    forbids: "禁止：",
    owes: "使用方无论如何使用均须履行（仅留存证据，不作强制）：",
    permits_nothing: "不允许任何使用。",
    conflict,
    closing: "其余一律拒绝。",
    action,
    own,
    provided: "，条件是：",
    when: "，如果：",
    stop: "。",
    before_use: "。首次使用前须：",
    with_conditions: "，要求：",
    group,
    atomic,
    mask,
    masked: |column, how| format!("列{column}{how}"),
    broken: |text| format!("“{text}”（无法理解，凡涉及此项一律拒绝）"),
    quote: |text| format!("“{text}”"),
    and: "、",
    comma: "，",
    semicolon: "；",
    colon: "：",
    reason,
    outcome,
    why,
    seen: |seen| seen.map_or_else(|| "请求未说明".to_owned(), |seen| format!("实际为“{seen}”")),
    duty_done: |action, id| format!("已履行义务：{action}（“{id}”）"),
    plan: "行过滤与脱敏",
};

fn heading(heading: &Heading<'_>) -> String {
    let Heading { kind, uid, from, to, asset } = heading;
    let kind = match kind {
        PolicyKind::Set => "策略",
        PolicyKind::Offer => "要约",
        PolicyKind::Agreement => "合约",
    };
    let from = from.map(|from| format!("，授权方为 {from}")).unwrap_or_default();
    let to = to.map(|to| format!("，被授权方为 {to}")).unwrap_or_default();
    let asset = asset.map(|asset| format!("，标的为“{asset}”")).unwrap_or_default();
    format!("{kind}“{uid}”{from}{to}{asset}。")
}

fn own(asset: Option<&str>, party: Option<&str>) -> String {
    let asset = asset.map(|asset| format!("（标的“{asset}”）")).unwrap_or_default();
    let party = party.map(|party| format!("（由 {party} 进行）")).unwrap_or_default();
    asset + &party
}

fn conflict(conflict: Conflict) -> &'static str {
    match conflict {
        Conflict::Prohibit => "既被允许又被禁止的，以禁止为准。",
        Conflict::Permit => "既被允许又被禁止的，以允许为准。",
        Conflict::Invalid => "允许与禁止可能冲突的，整个策略无效。",
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Use => "以任何方式使用",
        Action::Read => "查询和读取",
        Action::Reproduce => "下载副本",
        Action::Display => "展示",
        Action::Aggregate => "统计汇总",
        Action::Derive => "加工衍生",
        Action::Distribute => "向第三方提供",
        Action::Transfer => "整体转让",
        Action::Attribute => "注明来源",
        Action::Inform => "告知持有方",
        Action::Delete => "删除全部副本",
        Action::Compensate => "支付费用",
        Action::ObtainConsent => "取得同意",
    }
}

fn group(group: Group, members: &str) -> String {
    let how_many = match group {
        Group::And => "以下各项全部成立",
        Group::Or => "以下至少一项成立",
        Group::Xone => "以下有且仅有一项成立",
    };
    format!("{how_many}（{members}）")
}

fn atomic(left: LeftOperand, operator: Operator, value: &str, count: u64) -> Option<String> {
    let subject = match left {
        LeftOperand::Purpose => "使用目的",
        LeftOperand::Recipient => "接收方",
        LeftOperand::Spatial => "使用地点",
        LeftOperand::DeliveryFormat => "交付格式",
        LeftOperand::DateTime => "时间",
        LeftOperand::Count => return quota(operator, count, "使用次数", "次"),
        LeftOperand::RowCount => return quota(operator, count, "交付行数", "行"),
        LeftOperand::ByteCount => return quota(operator, count, "交付数据量", "字节"),
        LeftOperand::RowFilter => return Some(format!("仅可见满足{value}的行")),
        LeftOperand::ColumnDeny => return Some(format!("以下列不可见：{value}")),
        LeftOperand::ColumnMask => return None,
        LeftOperand::CredentialType => return shown(operator, "有效凭证类型：", value),
        LeftOperand::CredentialClaim => return shown(operator, "有效凭证内容：", value),
    };
    let relation = match operator {
        Operator::Eq => "为",
        Operator::Neq => "不为",
        Operator::IsAnyOf => "为下列之一：",
        Operator::IsNoneOf => "不为下列任何一项：",
        Operator::IsA => return Some(format!("{subject}为{value}或其下位目的")),
        Operator::IsPartOf => return Some(format!("{subject}在{value}范围内")),
        Operator::Lt => "早于 ",
        Operator::Lteq => "不晚于 ",
        Operator::Gt => "晚于 ",
        Operator::Gteq => "不早于 ",
        Operator::HasPart | Operator::IsAllOf => return None,
    };
    Some(format!("{subject}{relation}{value}"))
}

fn shown(operator: Operator, what: &str, value: &str) -> Option<String> {
    let how_many = match operator {
        Operator::Eq => "",
        Operator::IsAnyOf => "下列至少一种",
        Operator::IsAllOf => "下列每一种",
        Operator::Neq
        | Operator::Lt
        | Operator::Lteq
        | Operator::Gt
        | Operator::Gteq
        | Operator::IsA
        | Operator::HasPart
        | Operator::IsPartOf
        | Operator::IsNoneOf => return None,
    };
    Some(format!("使用方已出示{how_many}{what}{value}"))
}

fn quota(operator: Operator, count: u64, subject: &str, unit: &str) -> Option<String> {
    match operator {
        Operator::Lteq => Some(format!("累计{subject}不超过 {count} {unit}")),
        Operator::Lt => Some(format!("累计{subject}少于 {count} {unit}")),
        Operator::Eq
        | Operator::Neq
        | Operator::Gt
        | Operator::Gteq
        | Operator::IsA
        | Operator::HasPart
        | Operator::IsPartOf
        | Operator::IsAllOf
        | Operator::IsAnyOf
        | Operator::IsNoneOf => None,
    }
}

fn mask(mask: Mask) -> &'static str {
    match mask {
        Mask::Alphanum => "隐去字母和数字",
        Mask::ShowFirst4 => "仅显示前四个字符",
        Mask::ShowLast4 => "仅显示后四个字符",
        Mask::Sha256Global => "以 SHA-256 假名显示",
        Mask::TruncateToYear => "仅保留年份",
        Mask::TruncateToMonth => "仅保留年月",
        Mask::ReplaceWithNull => "显示为空值",
        Mask::ToDefault => "显示为固定值",
    }
}

fn reason(reason: Reason, action: &str, rule: &str) -> String {
    match reason {
        Reason::Permitted => format!("允许：{action}，依据 {rule}。"),
        Reason::Prohibited => format!("拒绝：{rule} 禁止{action}。"),
        Reason::MaybeProhibited => format!("拒绝：无法判断 {rule} 是否禁止{action}，因此不予允许。"),
        Reason::NothingApplies => format!("拒绝：没有任何许可适用于该使用方在此{action}。"),
        Reason::NothingHolds => format!("拒绝：没有成立的许可可供{action}。"),
        Reason::Offer => "拒绝：这是要约，只有达成的合约才产生许可。".to_owned(),
        Reason::Void => "拒绝：该策略可能同时允许和禁止同一行为，整个策略无效。".to_owned(),
        Reason::TooLarge => "拒绝：策略超出本系统可处理的规模。".to_owned(),
        Reason::Disagreement => "拒绝：对判定的内部核验未通过，请报告此问题。".to_owned(),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Holds => "成立",
        Outcome::Fails => "不成立",
        Outcome::Unknown => "无法判断",
    }
}

fn why(why: &Why) -> String {
    match why {
        Why::Compared => "已比较取值".to_owned(),
        Why::Combined => "由各部分得出".to_owned(),
        Why::Missing => "请求未说明".to_owned(),
        Why::NotShown => "未出示说明此项的有效凭证".to_owned(),
        Why::NotValid => "运算符或取值与该项不符".to_owned(),
        Why::NotEnforceable => "该项在此处无法执行".to_owned(),
        Why::Shapes => "作用于结果数据".to_owned(),
        Why::BadPlan(error) => format!("无法读取（{error}）"),
        Why::Duty => "依据履行报告".to_owned(),
    }
}
