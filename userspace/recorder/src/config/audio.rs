//! `[audio]`: what recordings are made of.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::encode::Form;
use crate::finish::{Audio, Choice};

/// As it is typed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Typed {
    #[serde(deserialize_with = "choice")]
    ffmpeg: Choice,
    keep_rtp: bool,
    format: Form,
    pcap: bool,
}

/// `"auto"`, `"off"` or a path.
fn choice<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Choice, D::Error> {
    let typed = PathBuf::deserialize(deserializer)?;
    Ok(match typed.to_str() {
        Some("auto") => Choice::Auto,
        Some("off") => Choice::Off,
        _ if !typed.is_absolute() => {
            return Err(serde::de::Error::custom("`audio.ffmpeg` is \"auto\", \"off\" or an absolute path"));
        }
        _ => Choice::At(typed),
    })
}

impl From<Typed> for Audio {
    fn from(typed: Typed) -> Audio {
        let Typed { ffmpeg, keep_rtp, format, pcap } = typed;
        Audio { ffmpeg, keep_rtp, form: format, pcap, ..Audio::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_is_chosen() {
        let parse = |text: &str| toml::from_str::<Typed>(text).map(Audio::from);
        assert_eq!(parse("").unwrap(), Audio::default());
        let off = parse("ffmpeg = 'off'\nkeep_rtp = true").unwrap();
        assert_eq!(off, Audio { ffmpeg: Choice::Off, keep_rtp: true, ..Audio::default() });
        assert_eq!(parse("ffmpeg = '/opt/ffmpeg'").unwrap().ffmpeg, Choice::At("/opt/ffmpeg".into()));
        assert!(parse("ffmpeg = 'on'").unwrap_err().to_string().contains("absolute path"));
    }
    #[test]
    fn the_format_is_chosen() {
        let parse = |text: &str| toml::from_str::<Typed>(text).map(|typed| Audio::from(typed).form);
        let all = [
            ("wav", Form::Wav),
            ("wav-ulaw", Form::WavUlaw),
            ("wav-alaw", Form::WavAlaw),
            ("flac", Form::Flac),
            ("opus", Form::Opus),
        ];
        for (typed, form) in all {
            assert_eq!(parse(&format!("format = '{typed}'")).unwrap(), form);
        }
        assert!(parse("format = 'mp3'").unwrap_err().to_string().contains("`wav-alaw`, `flac`, `opus`"));
    }
}
