//! What of an archive is made for others: a folder, a bag, a zip file with a page to play it, vCons.

mod bag;
mod folder;
mod page;
pub(crate) mod vcon;
mod zip;

pub(crate) use bag::{Info, bag};
pub(crate) use folder::{Folder, Mark};
pub(crate) use page::page;
pub(crate) use zip::pack;
