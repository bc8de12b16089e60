//! Names of signals, as images and the CRI write them.

use cri_api::v1::Signal;

/// The number of a signal by `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` or `RTMINPLUS3`.
#[must_use]
pub fn parse(word: &str) -> Option<i32> {
    let word = word
        .trim()
        .to_ascii_uppercase()
        .replace("PLUS", "+")
        .replace("MINUS", "-");
    runtime::kill::signal_number(&word).ok().filter(|&n| n != 0)
}

/// The number of the CRI's signal; none for its `RUNTIME_DEFAULT`.
#[must_use]
pub fn of_cri(signal: Signal) -> Option<i32> {
    if signal == Signal::RuntimeDefault {
        return None;
    }
    parse(signal.as_str_name())
}

/// The CRI's name of a signal's number.
#[must_use]
pub fn to_cri(number: i32) -> Signal {
    (1..=65)
        .filter_map(|n| Signal::try_from(n).ok())
        .find(|&s| of_cri(s) == Some(number))
        .unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (word, number) in [
            ("SIGTERM", 15),
            ("quit", 3),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("SIGRTMAX-2", 62),
            ("RTMIN", 34),
            ("SIGRTMINPLUS15", 49),
            ("SIGRTMAXMINUS14", 50),
        ] {
            assert_eq!(parse(word), Some(number), "{word}");
        }
        assert_eq!(parse("SIGNOPE"), None);
        assert_eq!(parse("0"), None);
    }

    #[test]
    fn every_signal_of_the_cri_has_a_number() {
        for n in 1..=65 {
            let signal = Signal::try_from(n).unwrap();
            let number = of_cri(signal).unwrap_or_else(|| panic!("{signal:?}"));
            assert_eq!(of_cri(to_cri(number)), Some(number));
        }
        assert_eq!(of_cri(Signal::RuntimeDefault), None);
    }
}
