//! Who gives way when messages cross, and when a refusal is believed: the steps one by one.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use shuyu_base::{Digest, UnixMillis};
use shuyu_contract_engine::negotiation::{Machine, State, Verb};
use shuyu_contract_engine::{Act, Effect, Msg, Negotiation, OfferTerms, Party, Proposal, Record, RetryPolicy, Salt};

const NOW: UnixMillis = UnixMillis(1_000_000);
const LATER: UnixMillis = UnixMillis(2_000_000);

type Effects = Vec<Effect<Negotiation>>;

fn from_provider(verb: Verb) -> Msg<Negotiation> {
    let terms = OfferTerms { offer_id: "offer".into(), policy_digest: Digest::sha256(b"rules") };
    Msg {
        from: Party::Provider,
        verb,
        event: Digest::sha256(verb.name().as_bytes()),
        salt: Salt::Unique,
        sender_pid: "provider".parse().unwrap(),
        receiver_pid: (verb != Verb::Offer).then(|| "consumer".parse().unwrap()),
        terms: (verb == Verb::Offer).then_some(terms),
    }
}

/// A consumer that was made an offer, and whose acceptance is on its way for the first time.
fn accepting() -> (Machine, Digest) {
    let mut machine = Machine::new(Party::Consumer, "consumer".parse().unwrap(), None, RetryPolicy::STANDARD);
    machine.on_msg(NOW, &from_provider(Verb::Offer));
    let event = Digest::sha256(b"our acceptance");
    machine.propose(Proposal { verb: Verb::Accept, event, terms: None }).unwrap();
    assert_eq!(machine.state(), Some(State::Offered));
    (machine, event)
}

fn is_busy(effects: &Effects) -> bool {
    effects.contains(&Effect::Busy) && !effects.contains(&Effect::Ack)
}

fn records(effects: &Effects) -> Vec<Act> {
    let act = |effect: &Effect<Negotiation>| match effect {
        Effect::Record(Record { act, .. }) => Some(*act),
        Effect::Save
        | Effect::Ack
        | Effect::AckAgain
        | Effect::Busy
        | Effect::Refuse(_)
        | Effect::Send { .. }
        | Effect::Enquire
        | Effect::ScheduleAt(_)
        | Effect::SetAside(_) => None,
    };
    effects.iter().filter_map(act).collect()
}

/// "Busy" answers an attempt that the provider may have got before it made its own message: no proof that it had not
/// applied ours by then. Only an attempt made after its message was seen proves that.
#[test]
fn a_consumer_gives_way_only_after_an_attempt_made_since() {
    let (mut machine, ours) = accepting();
    let theirs = from_provider(Verb::Terminate);
    assert!(is_busy(&machine.on_msg(NOW, &theirs)));
    machine.on_busy(NOW, ours, 0).unwrap();
    assert!(is_busy(&machine.on_msg(NOW, &theirs)), "the attempt answered was made before theirs was seen");

    let sent = machine.on_tick(LATER);
    assert!(matches!(sent.as_slice(), [Effect::Send { attempt: 2, .. }]), "{sent:?}");
    machine.on_busy(LATER, ours, 0).unwrap();
    let effects = machine.on_msg(LATER, &theirs);
    assert!(effects.contains(&Effect::Ack), "{effects:?}");
    assert_eq!(records(&effects), [Act::Withdrawn, Act::Received]);
    assert_eq!(machine.state(), Some(State::Terminated));
}

#[test]
fn a_provider_never_gives_way() {
    let terms = OfferTerms { offer_id: "offer".into(), policy_digest: Digest::sha256(b"rules") };
    let request = Msg {
        from: Party::Consumer,
        verb: Verb::Request,
        event: Digest::sha256(b"their request"),
        salt: Salt::Unique,
        sender_pid: "consumer".parse().unwrap(),
        receiver_pid: None,
        terms: Some(terms),
    };
    let mut machine = Machine::new(Party::Provider, "provider".parse().unwrap(), None, RetryPolicy::STANDARD);
    machine.on_msg(NOW, &request);
    let ours = Digest::sha256(b"our refusal");
    machine.propose(Proposal { verb: Verb::Terminate, event: ours, terms: None }).unwrap();
    let theirs = Msg {
        verb: Verb::Terminate,
        event: Digest::sha256(b"their end"),
        receiver_pid: Some("provider".parse().unwrap()),
        terms: None,
        ..request
    };
    for now in [NOW, LATER] {
        assert!(is_busy(&machine.on_msg(now, &theirs)));
        machine.on_busy(now, ours, 0).unwrap();
        machine.on_tick(UnixMillis(now.0 + 300_000));
    }
    assert!(is_busy(&machine.on_msg(LATER, &theirs)));
}

#[test]
fn a_refusal_is_believed_unless_an_earlier_attempt_may_have_arrived() {
    let (mut machine, ours) = accepting();
    let effects = machine.on_refused(ours).unwrap();
    assert_eq!(records(&effects), [Act::Withdrawn], "nothing went astray: {effects:?}");
    assert_eq!(machine.state(), Some(State::Offered));

    for (at_peer, state, acts) in
        [(State::Offered, State::Offered, vec![Act::Withdrawn]), (State::Accepted, State::Accepted, vec![])]
    {
        let (mut machine, ours) = accepting();
        machine.on_no_answer(NOW, ours, 0).unwrap();
        machine.on_tick(LATER);
        assert_eq!(machine.on_refused(ours).unwrap(), [Effect::Enquire], "the first attempt may have been applied");
        let effects = machine.on_peer_state(at_peer).unwrap();
        assert_eq!((machine.state(), records(&effects)), (Some(state), acts), "{effects:?}");
    }
}

/// A consumer verifies an agreement only once it has it, so the provider's acknowledgement is on its way; an end crosses it.
#[test]
fn an_answer_to_our_own_message_is_told_from_one_that_crosses_it() {
    let terms = OfferTerms { offer_id: "offer".into(), policy_digest: Digest::sha256(b"rules") };
    let request = Msg {
        from: Party::Consumer,
        verb: Verb::Request,
        event: Digest::sha256(b"their request"),
        salt: Salt::Unique,
        sender_pid: "consumer".parse().unwrap(),
        receiver_pid: None,
        terms: Some(terms.clone()),
    };
    let mut machine = Machine::new(Party::Provider, "provider".parse().unwrap(), None, RetryPolicy::STANDARD);
    machine.on_msg(NOW, &request);
    let later = |verb| Msg {
        verb,
        event: Digest::sha256(format!("{verb:?}").as_bytes()),
        receiver_pid: Some("provider".parse().unwrap()),
        terms: None,
        ..request.clone()
    };
    assert!(!machine.answers_pending(&later(Verb::Verify)), "nothing of ours is in flight");
    let ours = Digest::sha256(b"our agreement");
    machine.propose(Proposal { verb: Verb::Agree, event: ours, terms: Some(terms) }).unwrap();
    assert!(machine.answers_pending(&later(Verb::Verify)));
    assert!(!machine.answers_pending(&later(Verb::Terminate)), "it is legal as things stand: it crossed ours");
    assert!(!machine.answers_pending(&later(Verb::Accept)), "it is no answer to that");
    machine.on_ack(ours, None).unwrap();
    assert!(!machine.answers_pending(&later(Verb::Verify)));
}
