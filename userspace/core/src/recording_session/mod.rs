//! Recording sessions: calls by which a recording client sends the media of another call to a recorder.

pub mod siprec;
