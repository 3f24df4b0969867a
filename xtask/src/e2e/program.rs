//! XDP programs that are on an interface of the monitor before a recorder comes.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};
use tokio::runtime;

use crate::lab::switch::Lab;
use crate::workspace;

/// As the recorder's own program is called, in its object and in the kernel.
const OURS: &str = "spantape";
/// `XDP_FLAGS_DRV_MODE`
const IN_DRIVER: u32 = 1 << 2;

/// A program of that name, which is as long as ours. It leaves the interface when what is returned goes.
pub(super) fn attach(lab: &Lab, interface: &str, name: &str) -> Result<Ebpf> {
    let mut ebpf = load(name)?;
    lab.within_monitor(|| {
        xdp(&mut ebpf, name)?.attach(interface, XdpMode::Driver).context("attach an XDP program")?;
        Ok(ebpf)
    })
}

/// One of ours that is held by nothing but the interface, as older kernels leave one behind.
pub(super) fn leave_behind(lab: &Lab, interface: &str) -> Result<()> {
    let mut ebpf = load(OURS)?;
    let program = xdp(&mut ebpf, OURS)?.fd()?;
    let xdp = vec![LinkXdp::Fd(program.as_fd().as_raw_fd()), LinkXdp::Flags(IN_DRIVER)];
    let message =
        LinkUnspec::new_with_name(interface).append_extra_attribute(LinkAttribute::Xdp(xdp)).build();
    lab.within_monitor(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().context("open netlink")?;
            tokio::spawn(connection);
            handle.link().set(message).execute().await.context("attach an XDP program by netlink")
        })
    })
}

/// Our program under another name, which is all that makes it somebody else's.
fn load(name: &str) -> Result<Ebpf> {
    ensure!(name.len() == OURS.len(), "{name} is not as long as {OURS}");
    let path = workspace()?.join("ebpf/spantape.o");
    let mut object = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let at = object.windows(OURS.len()).position(|bytes| bytes == OURS.as_bytes());
    let at = at.with_context(|| format!("{} does not name its program", path.display()))?;
    object[at..at + name.len()].copy_from_slice(name.as_bytes());
    let mut ebpf = EbpfLoader::new().load(&object).with_context(|| format!("load {}", path.display()))?;
    xdp(&mut ebpf, name)?.load().context("the kernel does not take the program")?;
    Ok(ebpf)
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}
