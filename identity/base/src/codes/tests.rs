use proptest::prelude::*;

use super::*;
use crate::UnixMillis;

/// A published code: Alibaba (China) Network Technology Co., Ltd.
const LEGAL: &str = "91330100799655058B";

fn owner() -> ParticipantCode {
    LEGAL.parse().unwrap()
}

fn serial() -> Serial {
    "A1B2C3D4".parse().unwrap()
}

#[test]
fn mod_37_2_follows_its_definition() {
    // ISO/IEC 7064: the sum of value × weight, the check character included, is 1 modulo 37.
    let alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ*";
    for body in ["", "0", "Z", "A999914123456", "591330100799655058B5101A1B2C3D4"] {
        let code = format!("{body}{}", check_character(body).unwrap());
        let sum: usize = code
            .chars()
            .rev()
            .enumerate()
            .map(|(place, c)| alphabet.find(c).unwrap() * (1..=place).fold(1, |weight, _| weight * 2 % 37))
            .sum();
        assert_eq!(sum % 37, 1, "{code}");
    }
    assert_eq!(check_character("lower"), None);
    assert_eq!(check_character("12*4"), None);
}

#[test]
fn a_published_credit_code_is_a_legal_person() {
    assert_eq!(owner().kind(), ParticipantKind::LegalPerson);
    assert_eq!(ParticipantCode::legal_person(&LEGAL[..17]).unwrap(), owner());
    let person = ParticipantCode::natural_person("ZZ0000000000000000").unwrap();
    assert_eq!(person.kind(), ParticipantKind::NaturalPerson);
    assert!(ParticipantCode::natural_person(LEGAL).is_err());
    // One wrong digit does not turn a company into a person.
    assert!("91330100799655058C".parse::<ParticipantCode>().is_err());
}

#[test]
fn errors_name_the_place() {
    let code = NodeCode::new(NodeKind::Connector, owner(), PlaceCode::region("5101").unwrap(), serial()).to_string();
    assert_eq!(code.parse::<NodeCode>().unwrap().to_string(), code);
    let with =
        |at: usize, c: char| code.char_indices().map(|(i, old)| if i == at { c } else { old }).collect::<String>();
    let said = |text: String| text.parse::<NodeCode>().unwrap_err().to_string();
    let table = [
        (code[..31].to_owned(), "node code has 31 characters, not 32"),
        (with(0, '6'), "node code: field `type` at character 1 has a value that does not exist"),
        (with(0, 'X'), "node code: character 1 is not allowed in field `type`"),
        (with(5, '1'), "node code: check character at 19 does not fit, so a character is wrong"),
        (with(20, 'a'), "node code: character 21 is not allowed in field `region or trade`"),
        (with(25, 'a'), "node code: character 26 is not allowed in field `serial`"),
        (with(25, '京'), "node code: character 26 is not allowed in field `code`"),
        (with(25, 'Z'), "node code: check character at 32 does not fit, so a character is wrong"),
    ];
    for (text, expected) in table {
        assert_eq!(said(text), expected);
    }
}

#[test]
fn products_take_an_extension() {
    let place = PlaceCode::trade(55).unwrap();
    let code = ProductCode::new(ProductKind::Product, owner(), place, serial());
    let longer = code.with_extension("航班-2024").unwrap();
    assert_eq!((longer.base(), longer.extension()), (code.as_str(), Some("航班-2024")));
    assert!(code.with_extension(&"x".repeat(32)).is_ok());
    for bad in ["", "a b", "a•b", "a\n", &"x".repeat(33)] {
        assert!(code.with_extension(bad).is_err(), "{bad}");
    }
    assert!(format!("{code}x").parse::<ProductCode>().is_err());
    assert!(code.to_string().replacen('6', "8", 1).parse::<ProductCode>().is_err());
}

#[test]
fn contracts_carry_a_time_that_exists() {
    let at = UnixMillis::from_rfc3339("2026-11-22T08:30:15+08:00").unwrap();
    let make = |at| {
        let place = PlaceCode::region("1101").unwrap();
        ContractCode::new(SignMode::PointToPoint, NodeKind::Connector, owner(), place, at, serial())
    };
    let code = make(at).unwrap();
    assert!(code.as_str().contains("20261122083015"), "{code}");
    assert_eq!((code.issued_at(), code.as_str().len()), (at, ContractCode::LENGTH));
    assert_eq!(make(UnixMillis(i64::MAX)), None);
    let body = code.as_str()[..46].replace("20261122", "20261322");
    let bad = format!("{body}{}", check_character(&body).unwrap());
    assert_eq!(
        bad.parse::<ContractCode>().unwrap_err(),
        ParseCodeError::Value { code: "contract", field: "time", position: 25 }
    );
}

#[test]
fn places_are_regions_or_trades() {
    assert_eq!(PlaceCode::trade(7).unwrap().as_str(), "0007");
    assert!(PlaceCode::trade(0).is_none() && PlaceCode::trade(100).is_none());
    assert!(PlaceCode::region("0055").is_none() && PlaceCode::region("51").is_none());
    assert_eq!(Serial::from_number(35 + 36 * 10).as_str(), "000000AZ");
}

const ALPHABET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

proptest! {
    #[test]
    fn one_wrong_character_is_found(body in "[0-9A-Z]{1,46}", at in any::<prop::sample::Index>(), other in "[0-9A-Z*]") {
        let code = format!("{body}{}", check_character(&body).unwrap());
        let at = at.index(code.len());
        let wrong = format!("{}{other}{}", &code[..at], &code[at + 1..]);
        let (body, check) = wrong.split_at(wrong.len() - 1);
        let accepted = check_character(body).is_some_and(|c| check.starts_with(c));
        prop_assert_eq!(accepted, wrong == code);
    }

    #[test]
    fn two_swapped_neighbours_are_found(body in "[0-9A-Z]{1,46}", at in any::<prop::sample::Index>()) {
        let code = format!("{body}{}", check_character(&body).unwrap());
        let at = at.index(code.len() - 1);
        let mut wrong = code.clone().into_bytes();
        wrong.swap(at, at + 1);
        let wrong = String::from_utf8(wrong).unwrap();
        let (body, check) = wrong.split_at(wrong.len() - 1);
        let accepted = check_character(body).is_some_and(|c| check.starts_with(c));
        prop_assert_eq!(accepted, wrong == code);
    }

    #[test]
    fn a_wrong_code_is_never_another_code(
        number in any::<u64>(), trade in 1_u8..=99, at in 0_usize..32, other in prop::sample::select(ALPHABET.chars().collect::<Vec<_>>())
    ) {
        let place = PlaceCode::trade(trade).unwrap();
        let code = NodeCode::new(NodeKind::Business, owner(), place, Serial::from_number(number)).to_string();
        let wrong: String = code.chars().enumerate().map(|(i, c)| if i == at { other } else { c }).collect();
        prop_assert_eq!(wrong.parse::<NodeCode>().is_ok(), wrong == code);
    }

    #[test]
    fn any_text_is_read_without_panic(text in ".{0,70}", shaped in "[1-7][0-9A-Z]{28,46}[0-9A-Z*•]{1,20}") {
        for text in [text, shaped] {
            let _ = text.parse::<ParticipantCode>();
            let _ = text.parse::<NodeCode>();
            let _ = text.parse::<ProductCode>();
            let _ = text.parse::<ContractCode>();
            let _ = text.parse::<Serial>();
        }
    }

    #[test]
    fn credit_codes_find_one_wrong_character(body in "9[1-3][1-6][0-9]{5}[0-9A-HJ-NP-RTUW-Y]{9}", at in 0_usize..18, other in "[0-9A-HJ-NP-RTUW-Y]") {
        let code = ParticipantCode::legal_person(&body).unwrap().to_string();
        let wrong = format!("{}{other}{}", &code[..at], &code[at + 1..]);
        prop_assert_eq!(ParticipantCode::parse_legal_person(&wrong).is_ok(), wrong == code);
    }
}
