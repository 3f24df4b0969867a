//! What of a message is not as the grammar has it.

/// A way in which a message departs from RFC 3261, in what matters here. The message is understood as far as it
/// goes; fields that a recorder has no use for may be as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The version is not `SIP/2.0` (7.1).
    Version,
    /// White space in the start line beside the two single spaces (7.1, 7.2).
    StartLine,
    /// The Request-URI stands in angle brackets, is none, or has white space or header fields in it (19.1.1).
    RequestUri,
    /// The status code is not between 100 and 699 (21): it cannot be told what is answered.
    StatusCode,
    /// There is no Call-ID (8.1.1.4).
    CallId,
    /// From is missing or cannot be taken apart (8.1.1.3).
    From,
    /// To is missing or cannot be taken apart (8.1.1.2).
    To,
    /// CSeq is missing, or its number is none below 2^31 (8.1.1.5).
    CSeq,
    /// The method in CSeq is not that of the request (8.1.1.5).
    Method,
    /// Content-Length is no number, or several that differ (20.14).
    ContentLength,
    /// There is less or more after the header than Content-Length says (18.3).
    Body,
    /// Call-ID, From, To, CSeq or Content-Type stands more than once, with different values (7.3.1): the first counts.
    Repeated,
}

impl Oddity {
    /// All of them.
    pub const ALL: [Oddity; 12] = [
        Oddity::Version,
        Oddity::StartLine,
        Oddity::RequestUri,
        Oddity::StatusCode,
        Oddity::CallId,
        Oddity::From,
        Oddity::To,
        Oddity::CSeq,
        Oddity::Method,
        Oddity::ContentLength,
        Oddity::Body,
        Oddity::Repeated,
    ];

    /// What is odd, in a few words that go after "SIP messages with".
    pub fn as_str(self) -> &'static str {
        match self {
            Oddity::Version => "another version",
            Oddity::StartLine => "white space in the start line",
            Oddity::RequestUri => "an odd Request-URI",
            Oddity::StatusCode => "an impossible status code",
            Oddity::CallId => "no Call-ID",
            Oddity::From => "an odd From or none",
            Oddity::To => "an odd To or none",
            Oddity::CSeq => "an odd CSeq or none",
            Oddity::Method => "another method in CSeq",
            Oddity::ContentLength => "an odd Content-Length",
            Oddity::Body => "a body of another length than Content-Length",
            Oddity::Repeated => "fields repeated that stand once",
        }
    }
}

/// A set of [`Oddity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities(u16);

impl Oddities {
    /// Whether nothing is odd.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is.
    pub fn contains(self, oddity: Oddity) -> bool {
        self.0 & bit(oddity) != 0
    }

    /// In the order of [`Oddity::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Oddity> {
        Oddity::ALL.into_iter().filter(move |&oddity| self.contains(oddity))
    }

    pub(super) fn insert(&mut self, oddity: Oddity) {
        self.0 |= bit(oddity);
    }

    pub(super) fn insert_if(&mut self, oddity: Oddity, is_odd: bool) {
        if is_odd {
            self.insert(oddity);
        }
    }
}

fn bit(oddity: Oddity) -> u16 {
    1 << oddity as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        let mut set = Oddities::default();
        assert!(set.is_empty());
        set.insert(Oddity::To);
        set.insert_if(Oddity::Version, true);
        set.insert_if(Oddity::Body, false);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Oddity::Version, Oddity::To]);
        for (place, oddity) in Oddity::ALL.into_iter().enumerate() {
            assert_eq!(oddity as usize, place);
        }
    }
}
