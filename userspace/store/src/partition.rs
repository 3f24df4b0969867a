//! Where the parts of the catalog lie.
//!
//! ```text
//! <archive>/catalog/<table>/day=2026-11-22/part-<16 hex digits>.parquet
//!                                          node=north/part-….parquet     of one of several recorders
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io};
use crate::place::Place;
use crate::schema::Table;
use crate::utc::Day;

/// Where a recorder puts the rows of a day: one of several has a node's name.
pub(crate) fn directory(archive: &Path, table: Table, day: Day, node: Option<&str>) -> PathBuf {
    let day = archive.join(name(table, day));
    node.map_or(day.clone(), |node| day.join(node_directory(node)))
}

/// Where the rows of a day lie within the archive.
pub(crate) fn name(table: Table, day: Day) -> String {
    format!("{}/day={day}", table_name(table))
}

/// Where the rows of a day lie, whoever has put them there.
pub(crate) fn places(archive: &Path, table: Table, day: Day) -> Result<Vec<PathBuf>> {
    let day = directory(archive, table, day, None);
    let mut nodes = names(&day)?;
    nodes.retain(|name| is_node(name));
    nodes.sort();
    let nodes: Vec<PathBuf> = nodes.iter().map(|name| day.join(name)).collect();
    Ok([vec![day], nodes].concat())
}

/// The name of a node's directory.
pub(crate) fn node_directory(node: &str) -> String {
    format!("{NODE}{node}")
}

/// Whether a directory of that name is a node's.
pub(crate) fn is_node(name: &str) -> bool {
    name.starts_with(NODE)
}

const NODE: &str = "node=";

/// The days a table has rows of, oldest first.
pub(crate) fn days(archive: impl Into<Place>, table: Table) -> Result<Vec<Day>> {
    let archive: Place = archive.into();
    let names = archive.names(&table_name(table))?;
    let mut days: Vec<Day> =
        names.iter().filter_map(|name| name.strip_prefix("day=").and_then(Day::parse)).collect();
    days.sort();
    Ok(days)
}

/// The parts of a day by name.
pub(crate) fn parts(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut names = names(directory)?;
    names.retain(|name| is_part(name));
    names.sort();
    Ok(names.iter().map(|name| directory.join(name)).collect())
}

/// The parts of a day, whoever has written them.
pub(crate) fn all_parts(archive: &Path, table: Table, day: Day) -> Result<Vec<PathBuf>> {
    let places = places(archive, table, day)?;
    Ok(places.iter().map(|place| parts(place)).collect::<Result<Vec<_>>>()?.concat())
}

/// Fails where a recorder that is called so, or that has no name, would put parts at another depth of directories than those
/// that are there: readers of Parquet take one depth alone.
pub(crate) fn check_node(archive: &Path, node: Option<&str>) -> Result<()> {
    for table in Table::ALL {
        // What is there is of one kind: the last day that has any parts tells which.
        for day in days(archive, table)?.into_iter().rev() {
            let (mut has_plain, mut has_nodes) = (false, false);
            for (index, place) in places(archive, table, day)?.iter().enumerate() {
                let has_parts = !parts(place)?.is_empty();
                // The first is the day's own directory.
                if index == 0 { has_plain |= has_parts } else { has_nodes |= has_parts }
            }
            match node {
                Some(_) if has_plain => return Err(Error::NodeRefused { path: archive.to_owned() }),
                None if has_nodes => return Err(Error::NodeMissing { path: archive.to_owned() }),
                _ if has_plain || has_nodes => break,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a file of that name is a part.
pub(crate) fn is_part(name: &str) -> bool {
    name.starts_with("part-") && name.ends_with(".parquet")
}

/// Says what is wrong with a place that holds no catalog.
pub fn check(archive: impl Into<Place>) -> Result<()> {
    let place: Place = archive.into();
    let reason = match &place {
        Place::Local(archive) if !archive.exists() => "there is no such directory",
        Place::Local(archive) if !archive.is_dir() => "it is not a directory",
        Place::Local(archive) if !archive.join("catalog").is_dir() => "it has no directory `catalog`",
        Place::Local(_) => return Ok(()),
        #[cfg(feature = "remote")]
        Place::Remote(remote) if remote.names("catalog")?.is_empty() => "there is nothing below `catalog/`",
        #[cfg(feature = "remote")]
        Place::Remote(_) => return Ok(()),
    };
    Err(Error::NoArchive { path: place.path(""), reason })
}

fn table_name(table: Table) -> String {
    format!("catalog/{}", table.as_str())
}

/// Names in a directory; none if it is not there.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io("read", directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(io("read", directory))?.file_name().into_string().ok());
    }
    Ok(names)
}
