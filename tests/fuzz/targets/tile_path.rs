//! The names of tiles.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_tlog::TilePath;

fuzz_target!(|text: &str| {
    let Ok(path) = text.parse::<TilePath>() else { return };
    assert_eq!(path.to_string(), text, "a tile has one name");
    assert_eq!(TilePath::new(path.tile(), path.index(), path.width()), Some(path));
    assert_eq!(path.full().to_string().parse(), Ok(path.full()));
});
