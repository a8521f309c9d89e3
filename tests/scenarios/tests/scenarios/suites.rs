//! Both suites of a ledger, and a ledger that comes back from its mirror: what the command says of real nodes.

use shuyu_scenarios::{Node, Pair, Ran, constraint, eventually};
use shuyu_tlog::Note;

use crate::witness::{configure, hex_of};

async fn verify(node: &Node, place: &str, more: &[&str]) -> Ran {
    node.cli(&[&["ledger", "verify", place], more].concat()).await
}

async fn entries(node: &Node) -> u64 {
    node.get("ledger").await.expect_ok()["size"].as_u64().expect("a size")
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("it can be read").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}

#[tokio::test]
async fn a_stripped_line_and_a_twin_of_other_entries_do_not_hold() {
    let pair = Pair::start().await;
    configure(&pair.holder, "ledger", "sm3-twin = true");
    pair.holder.restart().await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    pair.contract("open").await;
    let served = format!("{}/ledger", pair.holder.public);
    eventually("the twin is bound to the log", || async {
        let all = pair.holder.statements().await;
        all.iter().any(|statement| statement["kind"] == "ledger.sm3-head").then_some(())
    })
    .await;
    for more in [&["--require", "all"][..], &["--require", "all", "--twin"], &["--twin"]] {
        let ran = verify(&pair.holder, &served, more).await;
        assert_eq!(ran.code, 0, "{more:?}: {}\n{}", ran.out, ran.err);
    }
    let owned = [&["--node", &pair.holder.did][..], &["--require", "all", "--twin"]].concat();
    let ran = verify(&pair.holder, &served, &owned).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);

    // Somebody takes the SM2 line away: seen by whoever asks for all, and by nobody else.
    pair.holder.kill();
    let copy = pair.dir.path().join("copy");
    copy_dir(&pair.holder.dir, &copy);
    let file = copy.join("ledger/tlog/checkpoint");
    let note = Note::parse(&std::fs::read(&file).expect("it is there")).expect("a note");
    assert_eq!(note.signatures().len(), 2, "{note}");
    let bare = Note::sign(note.text().to_owned(), &[]).expect("a text");
    let stripped = bare.with_signatures([note.signatures()[0].clone()]).expect("it fits");
    std::fs::write(&file, stripped.to_string()).expect("it can be written");
    let place = copy.display().to_string();
    assert_eq!(verify(&pair.holder, &place, &[]).await.code, 0, "the format passes over lines it does not know");
    let ran = verify(&pair.holder, &place, &["--require", "all"]).await;
    assert_eq!(ran.code, 2, "{}\n{}", ran.out, ran.err);
    assert!(ran.err.contains("SM2"), "{}", ran.err);

    // The twin of another log under the same name and key.
    std::fs::write(&file, note.to_string()).expect("it can be written");
    let twin = copy.join("ledger/tlog-sm3/tile/entries");
    let mut bundle = twin;
    while bundle.is_dir() {
        bundle = std::fs::read_dir(&bundle).expect("it is there").flatten().next().expect("a bundle").path();
    }
    let mut bytes = std::fs::read(&bundle).expect("it can be read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&bundle, bytes).expect("it can be written");
    let ran = verify(&pair.holder, &place, &["--twin"]).await;
    assert_eq!(ran.code, 2, "{}\n{}", ran.out, ran.err);
}

#[tokio::test]
async fn a_lost_disk_is_restored_from_the_regulators_mirror_and_goes_on() {
    let pair = Pair::start().await;
    let regulator = pair.regulator().await;
    configure(&regulator, "audit", "every-s = 1\nserve-mirrors = true");
    regulator.restart().await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    pair.contract("open").await;
    let size = entries(&pair.holder).await;
    eventually("everything is mirrored", || async {
        let all = regulator.get("audit/standing").await.expect_ok();
        let of = all["items"].as_array()?.iter().find(|one| one["did"] == pair.holder.did.as_str())?.clone();
        (size <= of["verified_entries"].as_u64()?).then_some(())
    })
    .await;
    let origin = pair.holder.get("ledger").await.expect_ok()["origin"].as_str().expect("a name").to_owned();
    let before = pair.holder.statements().await;
    pair.holder.kill();
    let known = pair.dir.path().join("known.checkpoint");
    std::fs::copy(pair.holder.dir.join("ledger/tlog/checkpoint"), &known).expect("it can be copied");
    std::fs::remove_dir_all(pair.holder.dir.join("ledger")).expect("it can be removed");
    let mirror = format!("{}/mirror/{}", regulator.public, hex_of(&origin));
    let known = known.display().to_string();
    let ran = pair.holder.cli(&["ledger", "restore", "--from", &mirror, "--checkpoint", &known]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    pair.holder.spawn();
    pair.holder.ready().await;
    assert_eq!(pair.holder.statements().await[..before.len()], before[..]);
    // It goes on, and the regulator finds nothing wrong.
    pair.contract("open").await;
    let once = regulator.cli(&["audit", "follow", "--once"]).await;
    assert_eq!(once.code, 0, "{}\n{}", once.out, once.err);
}
