//! Which device a page gets.

use centripetal::device::{Device, DeviceChoice, adapters};
use centripetal::{ErrorKind, Result};

/// Opens `auto`, `gpu` or `cpu`.
///
/// # Errors
/// [`ErrorKind::Device`] when there is none such, or it cannot be used.
pub(crate) async fn open(choice: &str) -> Result<Device> {
    match choice {
        "cpu" => Ok(Device::cpu("asked for")),
        "gpu" => Device::open(DeviceChoice::Gpu).await,
        _ => match Device::open(DeviceChoice::Gpu).await {
            Ok(device) => Ok(device),
            Err(_) if adapters().await.is_empty() => Ok(Device::cpu("this browser offers no WebGPU adapter")),
            Err(error) if error.kind() == ErrorKind::Device => {
                Ok(Device::cpu(&format!("WebGPU could not be used: {error}")))
            }
            Err(error) => Err(error),
        },
    }
}
