//! Tickets: any bytes, and any payload that the node signed.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use shuyu_base::{Digest, UnixMillis};
use shuyu_data_plane::{Ask, Caller, Gate, Grant, Outcome, Receipt, Refused, RefusedCode, Ticket};

/// A gate that signs everything alike and opens nothing.
struct Closed;

const SIGNATURE: &str = "signed";

fn refused<T>() -> Result<T, Refused> {
    Err(Refused::new(RefusedCode::Forbidden, "closed"))
}

#[async_trait::async_trait]
impl Gate for Closed {
    async fn authenticate(&self, _: &str) -> Result<Caller, Refused> {
        refused()
    }
    async fn view(&self, _: &Caller, _: &Ask) -> Result<Grant, Refused> {
        refused()
    }
    async fn open(&self, _: &Caller, _: &Ask) -> Result<Grant, Refused> {
        refused()
    }
    async fn reopen(&self, _: &Caller, _: &str) -> Result<Grant, Refused> {
        refused()
    }
    async fn spend(&self, _: &str, _: u64, _: u64) -> Result<(), Refused> {
        refused()
    }
    async fn finish(&self, _: &str, _: Outcome) -> Result<Receipt, Refused> {
        refused()
    }
    fn sign_ticket(&self, _: &[u8]) -> String {
        SIGNATURE.to_owned()
    }
    fn verify_ticket(&self, _: &[u8], signature: &str) -> bool {
        signature == SIGNATURE
    }
}

fuzz_target!(|bytes: &[u8]| {
    let caller = Caller {
        consumer: "did:web:b.example".parse().expect("a DID"),
        transfer: "t".to_owned(),
        agreement: "a".to_owned(),
        holder: Digest::sha256(b"holder"),
    };
    let signed = format!("{}.{SIGNATURE}", URL_SAFE_NO_PAD.encode(bytes));
    for bytes in [bytes, signed.as_bytes()] {
        let Ok(ticket) = Ticket::open(bytes, &Closed, &caller, UnixMillis(0)) else { continue };
        assert_eq!((ticket.transfer.as_str(), ticket.agreement.as_str()), ("t", "a"));
        let again = Ticket::open(ticket.seal(&Closed).as_bytes(), &Closed, &caller, UnixMillis(0));
        assert_eq!(again.expect("what we seal we open"), ticket);
    }
});
