//! The torture messages of RFC 4475 and RFC 5118: what is made of each.
//!
//! A recorder answers nobody, so what a stack must reject is understood here as far as it goes, and what is odd about
//! it in what matters here is said. Fields that are not looked at, such as Via, Date or Contact, may be as they like.

use super::message::{Message, StartLine, looks_like_sip};
use super::oddity::Oddity::{self, *};
use crate::sdp;

struct Case {
    name: &'static str,
    bytes: &'static [u8],
    /// Method or status.
    start: &'static str,
    /// CSeq.
    cseq: (u32, &'static str),
    /// Users and tags of From and To.
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
    /// How long the body is, and how many streams it describes.
    body: (usize, usize),
    odd: &'static [Oddity],
}

macro_rules! case {
    ($name:literal, $start:literal, $cseq:expr, $from:expr, $to:expr, $body:expr, $odd:expr) => {
        Case {
            name: $name,
            bytes: include_bytes!(concat!("torture/", $name, ".dat")),
            start: $start,
            cseq: $cseq,
            from: $from,
            to: $to,
            body: $body,
            odd: &$odd,
        }
    };
}

const INTERESTING: &str = "!interesting-Method0123456789_*+`.%indeed'~";
const NONE: (&str, &str) = ("", "");

const CASES: &[Case] = &[
    // RFC 4475, 3.1.1: valid messages.
    case!("wsinv", "INVITE", (9, "INVITE"), ("jdrosen", "98asjd8"), ("vivekg", "1918181833n"), (150, 2), []),
    case!(
        "intmeth",
        "!interesting-Method0123456789_*+`.%indeed'~",
        (139_122_385, INTERESTING),
        ("mundane", "_token~1'+`*%!-."),
        ("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/", ""),
        (0, 0),
        []
    ),
    case!("esc01", "INVITE", (234_234, "INVITE"), ("I have spaces", "938"), ("user", ""), (150, 2), []),
    case!(
        "escnull",
        "REGISTER",
        (14_398_234, "REGISTER"),
        ("null-\0-null", "839923423"),
        ("null-\0-null", ""),
        (0, 0),
        []
    ),
    // What looks escaped is not where nothing is: this is not REGISTER, nor is there a Contact more.
    case!(
        "esc02",
        "RE%47IST%45R",
        (29_344, "RE%47IST%45R"),
        ("resource", "f232jadfj23"),
        ("resource", ""),
        (0, 0),
        []
    ),
    case!("lwsdisp", "OPTIONS", (60, "OPTIONS"), ("caller", "323"), ("user", ""), (0, 0), []),
    case!(
        "longreq",
        "INVITE",
        (3_882_340, "INVITE"),
        (
            "amazinglylongcallernameamazinglylongcallernameamazinglylongcallernameamazinglylongcallernameamazinglylong\
             callername",
            "1298298298298298298298298298298298298298298298298298298298298298298298298298298298298298298298298298\
             2982982982982982982982982982982982982982982982982982424"
        ),
        ("user", ""),
        (150, 2),
        []
    ),
    case!("dblreq", "REGISTER", (8, "REGISTER"), ("j.user", "43251j3j324"), ("j.user", ""), (0, 0), []),
    case!("semiuri", "OPTIONS", (8, "OPTIONS"), ("caller", "33242"), ("j_user", ""), (0, 0), []),
    case!("transports", "OPTIONS", (60, "OPTIONS"), ("caller", "323"), ("user", ""), (0, 0), []),
    case!("mpart01", "MESSAGE", (1, "MESSAGE"), ("fluffy", "2fb0dcc9"), ("kumiko", ""), (553, 0), []),
    case!("unreason", "200", (35, "INVITE"), ("user", "11141343"), ("user", "2229"), (154, 2), []),
    case!("noreason", "100", (35, "INVITE"), ("user", "39ansfi3"), ("user", "902jndnke3"), (0, 0), []),
    // 3.1.2: invalid messages. Via and Contact are not looked at.
    case!("badinv01", "INVITE", (8, "INVITE"), ("caller", "134161461246"), ("j.user", ""), (152, 2), []),
    case!("clerr", "INVITE", (8, "INVITE"), ("caller", "93942939o2"), ("j.user", ""), (154, 2), [Body]),
    case!("ncl", "INVITE", (0, "INVITE"), ("caller", "32394234"), ("j.user", ""), (152, 2), [ContentLength]),
    case!(
        "scalar02",
        "REGISTER",
        (u32::MAX, "REGISTER"),
        ("user", "239232jh3"),
        ("user", ""),
        (0, 0),
        [CSeq]
    ),
    case!("scalarlg", "503", (u32::MAX, "OPTIONS"), ("other", "2easdjfejw"), ("user", ""), (0, 0), [CSeq]),
    case!("quotbal", "INVITE", (8, "INVITE"), ("caller", "93334"), ("j.user", ""), (152, 2), [To]),
    case!("ltgtruri", "INVITE", (1, "INVITE"), ("caller", "39291"), ("user", ""), (159, 2), [RequestUri]),
    case!(
        "lwsruri",
        "INVITE",
        (2_130_706_432, "INVITE"),
        ("caller", "231413434"),
        ("user", "3xfe-9921883-z9f"),
        (159, 2),
        [RequestUri]
    ),
    case!(
        "lwsstart",
        "INVITE",
        (1_893_884, "INVITE"),
        ("caller", "8814"),
        ("user", ""),
        (150, 2),
        [StartLine]
    ),
    case!(
        "trws",
        "OPTIONS",
        (238_923, "OPTIONS"),
        ("local-resource", "329429089"),
        ("remote-target", ""),
        (0, 0),
        [StartLine]
    ),
    case!(
        "escruri",
        "INVITE",
        (149_209_342, "INVITE"),
        ("caller", "341518"),
        ("user", ""),
        (150, 2),
        [RequestUri]
    ),
    case!("baddate", "INVITE", (1_392_934, "INVITE"), ("caller", "2234923"), ("user", ""), (150, 2), []),
    case!("regbadct", "REGISTER", (1, "REGISTER"), ("user", "998332"), ("user", ""), (0, 0), []),
    case!(
        "badaspec",
        "OPTIONS",
        (3_923_239, "OPTIONS"),
        ("a.g.bell", "433423"),
        ("t.watson", ""),
        (0, 0),
        [To]
    ),
    case!(
        "baddn",
        "OPTIONS",
        (3_923_239, "OPTIONS"),
        ("a.g.bell", "43"),
        ("t.watson", ""),
        (0, 0),
        [From, To]
    ),
    case!(
        "badvers",
        "OPTIONS",
        (1, "OPTIONS"),
        ("a.g.bell", "qweoiqpe"),
        ("t.watson", ""),
        (0, 0),
        [Version]
    ),
    case!("mismatch01", "OPTIONS", (8, "INVITE"), ("caller", "34525"), ("j.user", ""), (0, 0), [Method]),
    case!("mismatch02", "NEWMETHOD", (8, "INVITE"), ("caller", "34525"), ("j.user", ""), (138, 2), [Method]),
    // It is no 429.
    case!(
        "bigcode",
        "0",
        (353_494, "INVITE"),
        ("user", "39ansfi3"),
        ("user", "902jndnke3"),
        (0, 0),
        [StatusCode]
    ),
    // 3.2 and 3.3: what is wrong with these is for transactions, applications and registrars to find.
    case!("badbranch", "OPTIONS", (8, "OPTIONS"), ("caller", "33242"), ("user", ""), (0, 0), []),
    case!("insuf", "INVITE", (193_942, "INVITE"), NONE, NONE, (152, 2), [CallId, From, To]),
    case!("unkscm", "OPTIONS", (3_923_423, "OPTIONS"), ("caller", "384"), ("user", ""), (0, 0), []),
    case!("novelsc", "OPTIONS", (3_923_423, "OPTIONS"), ("caller", "384"), ("user", ""), (0, 0), []),
    case!(
        "unksm2",
        "REGISTER",
        (234_902, "REGISTER"),
        ("//www.example.com", "3234233"),
        ("2983792873", ""),
        (0, 0),
        []
    ),
    case!("bext01", "OPTIONS", (8, "OPTIONS"), ("caller", "242etr"), ("j_user", ""), (0, 0), []),
    case!("invut", "INVITE", (235_448, "INVITE"), ("caller", "8392034"), ("j.user", ""), (40, 0), []),
    case!("regaut01", "REGISTER", (9338, "REGISTER"), ("j.user", "87321hj23128"), ("j.user", ""), (0, 0), []),
    case!("multi01", "INVITE", (5, "INVITE"), ("caller", "3413415"), ("user", ""), (152, 2), [Repeated]),
    case!(
        "mcl01",
        "OPTIONS",
        (15_932, "OPTIONS"),
        ("other", "3923942"),
        ("user", ""),
        (65, 0),
        [ContentLength, Body]
    ),
    case!("bcast", "200", (35, "INVITE"), ("user", "11141343"), ("user", "2229"), (154, 2), []),
    case!("zeromf", "OPTIONS", (39_234_321, "OPTIONS"), ("caller", "3ghsd41"), ("user", ""), (0, 0), []),
    case!(
        "cparam01",
        "REGISTER",
        (2, "REGISTER"),
        ("watson", "DkfVgjkrtMwaerKKpe"),
        ("watson", ""),
        (0, 0),
        []
    ),
    case!("cparam02", "REGISTER", (3, "REGISTER"), ("watson", "838293"), ("watson", ""), (0, 0), []),
    case!("regescrt", "REGISTER", (14_398_234, "REGISTER"), ("user", "8"), ("user", ""), (0, 0), []),
    case!("sdp01", "INVITE", (8, "INVITE"), ("caller", "234"), ("j_user", ""), (150, 2), []),
    // 3.4: RFC 2543 knew neither tags nor a mandatory Content-Length.
    case!("inv2543", "INVITE", (56, "INVITE"), ("+13035551111", ""), ("+16505552222", ""), (105, 1), []),
    // RFC 5118.
    case!("ipv6-good", "REGISTER", (98_176, "REGISTER"), ("user", "81x2"), ("user", ""), (0, 0), []),
    case!("ipv6-bad", "REGISTER", (98_176, "REGISTER"), ("user", "81x2"), ("user", ""), (0, 0), []),
    case!("port-ambiguous", "REGISTER", (98_176, "REGISTER"), ("user", "81x2"), ("user", ""), (0, 0), []),
    case!("port-unambiguous", "REGISTER", (98_176, "REGISTER"), ("user", "81x2"), ("user", ""), (0, 0), []),
    case!(
        "via-received-param-with-delim",
        "BYE",
        (321, "BYE"),
        ("user", "81x2"),
        ("user", "bd76ya"),
        (0, 0),
        []
    ),
    case!(
        "via-received-param-no-delim",
        "OPTIONS",
        (921, "OPTIONS"),
        ("user", "81x2"),
        ("user", ""),
        (0, 0),
        []
    ),
    case!("ipv6-in-sdp", "INVITE", (8612, "INVITE"), ("user", "81x2"), ("user", ""), (251, 2), []),
    case!("mult-ip-in-header", "BYE", (89_187, "BYE"), ("user", "81x2"), ("user", "9817--94"), (0, 0), []),
    case!("mult-ip-in-sdp", "INVITE", (8912, "INVITE"), ("user", "81x2"), ("user", ""), (189, 2), []),
    case!("ipv4-mapped-ipv6", "INVITE", (612, "INVITE"), ("user", "81x2"), ("user", ""), (245, 2), []),
    case!("ipv6-bug-abnf-3-colons", "OPTIONS", (689, "OPTIONS"), ("user", "810x2"), ("user", ""), (0, 0), []),
    case!(
        "ipv6-correct-abnf-2-colons",
        "OPTIONS",
        (689, "OPTIONS"),
        ("user", "810x2"),
        ("user", ""),
        (0, 0),
        []
    ),
];

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn each_is_understood_as_far_as_it_goes() {
    for case in CASES {
        let name = case.name;
        assert!(looks_like_sip(case.bytes), "{name}");
        let message = Message::parse(case.bytes).unwrap();
        let start = match message.start {
            StartLine::Request { method, .. } => text(method).to_owned(),
            StartLine::Response { status, .. } => status.to_string(),
        };
        assert_eq!(start, case.start, "{name}");
        let (from, to, cseq) = (message.from(), message.to(), message.cseq());
        assert_eq!((cseq.number, text(cseq.method)), case.cseq, "{name}");
        assert_eq!((&*from.user_text(), text(from.tag().unwrap_or_default())), case.from, "{name}");
        assert_eq!((&*to.user_text(), text(to.tag().unwrap_or_default())), case.to, "{name}");
        let description = sdp::find(message.content_type.unwrap_or_default(), message.body);
        let streams = description.map_or(0, |body| sdp::parse(body).len());
        assert_eq!((message.body.len(), streams), case.body, "{name}");
        assert_eq!(message.oddities().iter().collect::<Vec<_>>(), case.odd, "{name}");
    }
}

#[test]
fn each_has_its_call_id() {
    for case in CASES.iter().filter(|case| case.name != "insuf") {
        let message = Message::parse(case.bytes).unwrap();
        let call_id = text(message.call_id.unwrap());
        // The RFCs write the name into it, or it is one of these.
        let known = ["3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA..", "SSG9559905523997077@hlau_4100"];
        let known = known.iter().chain(&[
            "SSG95523997077@hlau_4100",
            "997077@lau_4100",
            "G9559905523997077@hlau_4100",
        ]);
        assert!(
            call_id.starts_with(case.name) || known.into_iter().any(|known| *known == call_id),
            "{call_id}"
        );
    }
}

#[test]
fn all_files_are_here() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sip/torture");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".dat").map(str::to_owned))
        .collect();
    let mut names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    files.sort_unstable();
    names.sort_unstable();
    assert_eq!(files, names);
}

#[test]
fn names_are_kept_as_they_are_meant() {
    let display = |name: &str| {
        let bytes = CASES.iter().find(|case| case.name == name).unwrap().bytes;
        let message = Message::parse(bytes).unwrap();
        (message.from().display_text().into_owned(), message.to().display_text().into_owned())
    };
    assert_eq!(display("wsinv").0, "J Rosenberg \\\"");
    assert_eq!(display("esc02"), ("%Z%45".to_owned(), "%Z%45".to_owned()));
    assert_eq!(display("lwsdisp").0, "caller");
    assert_eq!(
        display("intmeth"),
        ("token1~` token2'+_ token3*%!.-".to_owned(), "BEL:\x07 NUL:\0 DEL:\x7f".to_owned())
    );
    assert_eq!(display("quotbal").1, "Mr. J. User");
    assert_eq!(display("baddn"), ("Bell, Alexander".to_owned(), "Watson, Thomas".to_owned()));
}

#[test]
fn two_requests_in_one_datagram_are_two() {
    let bytes = CASES.iter().find(|case| case.name == "dblreq").unwrap().bytes;
    let first = Message::parse(bytes).unwrap();
    let second = Message::parse(&bytes[first.length..]).unwrap();
    assert_eq!(second.call_id, Some(&b"dblreq.0ha0isnda977644900765@192.0.2.15"[..]));
    assert_eq!((second.method(), second.body.len()), (&b"INVITE"[..], 155));
}

#[test]
fn addresses_of_both_families_are_where_media_is_received() {
    let endpoints = |name: &str| -> Vec<String> {
        let bytes = CASES.iter().find(|case| case.name == name).unwrap().bytes;
        let media = sdp::parse(Message::parse(bytes).unwrap().body);
        media.iter().map(|media| media.endpoint.unwrap().socket().to_string()).collect()
    };
    assert_eq!(endpoints("ipv6-in-sdp"), ["[2001:db8::20]:6000", "[2001:db8::20]:6024"]);
    assert_eq!(endpoints("mult-ip-in-sdp"), ["192.0.2.1:22334", "[2001:db8::1]:6024"]);
    assert_eq!(endpoints("ipv4-mapped-ipv6"), ["192.0.2.2:6000", "192.0.2.2:6024"]);
}
