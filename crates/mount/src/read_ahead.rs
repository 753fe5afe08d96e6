//! How far the system reads ahead in a mount.

use std::fs;
use std::path::Path;

use crate::mount_table;

/// What the system asks for at once where somebody reads on and on, KiB; 128 where nobody says so. One answer costs as
/// much as the other, whatever its length.
const READ_AHEAD_KIB: u32 = 1024;

/// Has the system read further ahead in what is mounted on `directory`. Only root may say so: for others it stays as it
/// is. The mount itself is not looked at, as it may be us whom that would wait for.
pub(crate) fn widen(directory: &Path) {
    let Ok(Some(mount)) = mount_table::find(directory) else { return };
    let place = format!("/sys/class/bdi/{}/read_ahead_kb", mount.device);
    if let Err(error) = fs::write(&place, READ_AHEAD_KIB.to_string()) {
        tracing::debug!("{place}: {error}");
    }
}
