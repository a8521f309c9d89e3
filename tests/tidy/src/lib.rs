//! House rules as tests: floors, file lengths, names. Everything is in `tests/house.rs`.
