//! Credentials behind a use: they are looked at when it begins, and again by a timer while it runs.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use shuyu_data_plane::{Caller, Refused, RefusedCode, StreamStanding};
use shuyu_policy::{Shown, credential_types};
use tokio::sync::watch;

use super::{Gatekeeper, unavailable};
use crate::agreements::AgreementRow;
use crate::claims::space::{AdmitError, Relied, Viewer};
use crate::clock;
use crate::management::chain;

/// Shortest time between two looks at the same credentials.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

impl Gatekeeper {
    /// How the consumer stands now in our spaces, or the refusal.
    pub(super) async fn viewer(&self, caller: &Caller) -> Result<Viewer, Refused> {
        self.spaces.standing_of(&caller.consumer).await.map_err(|error| lapsed(&error))
    }

    /// What the consumer's credentials say, by space that the contract belongs to.
    pub(super) fn shown(&self, viewer: &Viewer, row: &AgreementRow) -> Result<Vec<(Option<String>, Shown)>, Refused> {
        let spaces = self.spaces.names().of(&row.spaces);
        let shown = viewer.shown_in(&spaces).into_iter();
        let shown: Vec<_> = shown.map(|(space, shown)| (space.map(str::to_owned), shown)).collect();
        if shown.is_empty() {
            let why = "the consumer is in none of the spaces that the contract belongs to";
            return Err(Refused::new(RefusedCode::Forbidden, why));
        }
        Ok(shown)
    }

    /// Sees to it that the running streams of a transfer end when the credentials that this use relied on do. One task a
    /// transfer; it sleeps until the verdict is to be looked at again, and ends with the last stream.
    pub(super) fn watch_over(
        &self,
        caller: &Caller,
        row: &AgreementRow,
        viewer: &Viewer,
        in_space: &str,
        shown: &Shown,
    ) {
        let Some(standing) = &viewer.standing else { return };
        let types = self.agreements.program(row).map(|program| credential_types(program.policy())).unwrap_or_default();
        let Some(streams) = self.agreements.streams_of(&caller.transfer) else { return };
        let mut relied = self.relied.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = relied.get_mut(&caller.transfer) {
            return known.add(in_space, shown, &types);
        }
        let mut first = Relied::default();
        first.add(in_space, shown, &types);
        relied.insert(caller.transfer.clone(), first);
        let until = standing.until;
        tokio::spawn(Self::keep_looking(Weak::clone(&self.this), caller.clone(), streams, until));
    }

    async fn keep_looking(
        this: Weak<Self>,
        caller: Caller,
        streams: watch::Sender<StreamStanding>,
        mut until: shuyu_base::UnixMillis,
    ) {
        loop {
            let left = Duration::from_millis(u64::try_from(until.since(clock::now())).unwrap_or(0));
            let has_ended = tokio::select! {
                () = streams.closed() => true,
                () = tokio::time::sleep(left.max(SHORTEST_PAUSE)) => false,
            };
            let Some(gate) = this.upgrade() else { return };
            if has_ended {
                if gate.is_unwatched(&caller.transfer, &streams) {
                    return;
                }
                continue;
            }
            match gate.spaces.standing_of(&caller.consumer).await {
                Ok(Viewer { standing: Some(standing), .. }) => match gate.lost(&caller.transfer, &standing) {
                    None => until = standing.until,
                    Some(reason) => return gate.cut_off(&caller, &reason),
                },
                Ok(Viewer { standing: None, .. }) => return,
                Err(error) => return gate.cut_off(&caller, &chain(&error)),
            }
        }
    }

    /// Forgets a transfer without streams. Under the lock, so that a use that begins now is either seen or watched anew.
    fn is_unwatched(&self, transfer: &str, streams: &watch::Sender<StreamStanding>) -> bool {
        let mut relied = self.relied.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = streams.receiver_count() == 0;
        if ended {
            relied.remove(transfer);
        }
        ended
    }

    fn lost(&self, transfer: &str, standing: &Arc<crate::claims::space::Standing>) -> Option<String> {
        let relied = self.relied.lock().unwrap_or_else(PoisonError::into_inner);
        relied.get(transfer).and_then(|relied| relied.lost(standing))
    }

    fn cut_off(&self, caller: &Caller, reason: &str) {
        self.relied.lock().unwrap_or_else(PoisonError::into_inner).remove(&caller.transfer);
        tracing::info!(agreement = %caller.agreement, consumer = %caller.consumer, reason, "streams ended");
        self.agreements.stop_streams(&caller.transfer, reason);
    }
}

/// A refusal by credentials: a verdict on the use where they are bad, else a matter of time.
fn lapsed(error: &AdmitError) -> Refused {
    let text = chain(error);
    if error.status().is_server_error() {
        return unavailable(&text);
    }
    Refused::new(RefusedCode::Forbidden, text)
}
