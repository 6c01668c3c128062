//! What a file is by its first bytes, whatever it is called.

/// Formats in which networks travel, and what is found in their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Safetensors: tensors by name.
    Safetensors,
    /// What can be ONNX: a protobuf message whose first field is a version, or another one of `ModelProto`.
    Onnx,
    /// A file of `torch.save` (.pth, .pt, .bin, .ckpt), or TorchScript.
    Torch,
    /// A ZIP archive that is not PyTorch's, such as .keras and .npz.
    Zip,
    /// HDF5, as Keras writes it (.h5).
    Hdf5,
    /// TensorFlow Lite.
    TensorFlowLite,
    /// TensorFlow's `saved_model.pb`.
    SavedModel,
    /// onnxruntime's own .ort.
    Ort,
    /// A pointer to a file that Git LFS has not fetched.
    LfsPointer,
    /// A web page, saved instead of the file that was meant.
    WebPage,
    /// A gzip or other archive.
    Archive,
    /// Nothing at all.
    Empty,
    /// Anything else.
    Unknown,
}

impl Kind {
    /// What the file of these `bytes` is.
    pub fn of(bytes: &[u8]) -> Kind {
        let begins = |with: &[u8]| bytes.starts_with(with);
        let at_four = bytes.get(4..8).unwrap_or_default();
        if bytes.is_empty() {
            return Kind::Empty;
        }
        if is_safetensors(bytes) {
            return Kind::Safetensors;
        }
        if begins(b"PK\x03\x04") {
            // PyTorch names the files of its archive NAME/data.pkl, the first of them in the first bytes.
            let head = &bytes[..bytes.len().min(256)];
            let has = |text: &[u8]| head.windows(text.len()).any(|window| window == text);
            return if has(b"/data.pkl") || has(b"/.format_version") || has(b"/byteorder") || has(b"/version")
            {
                Kind::Torch
            } else {
                Kind::Zip
            };
        }
        // A pickle of protocol 2 or later; torch.save wrote several in a row before version 1.6.
        if let [0x80, 2..=5, ..] = bytes {
            return Kind::Torch;
        }
        if begins(b"\x89HDF\r\n\x1a\n") {
            return Kind::Hdf5;
        }
        match at_four {
            b"TFL3" => return Kind::TensorFlowLite,
            b"ORTM" => return Kind::Ort,
            _ => {}
        }
        if begins(b"version https://git-lfs") {
            return Kind::LfsPointer;
        }
        let text = bytes[..bytes.len().min(64)].trim_ascii_start().to_ascii_lowercase();
        if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
            return Kind::WebPage;
        }
        if begins(b"\x1f\x8b") || begins(b"7z\xbc\xaf") || begins(b"BZh") || begins(b"\xfd7zXZ") {
            return Kind::Archive;
        }
        // SavedModel: version 1, then the graphs. ONNX's second field there would be the producer, a text.
        if begins(&[8, 1, 0x12]) && bytes.get(4..).is_some_and(|rest| rest.iter().take(8).any(|&x| x == 0x0A))
        {
            return Kind::SavedModel;
        }
        // The first field of ONNX's model by number and type: its version, a text, the network or the operators' version.
        match bytes[0] {
            0x08 | 0x12 | 0x1A | 0x22 | 0x28 | 0x32 | 0x3A | 0x42 | 0x72 => Kind::Onnx,
            _ => Kind::Unknown,
        }
    }

    /// What it is, as in "found a file of torch.save".
    pub fn told(self) -> &'static str {
        match self {
            Kind::Safetensors => "a safetensors file",
            Kind::Onnx => "an ONNX file",
            Kind::Torch => "a file of PyTorch's own format (torch.save or TorchScript)",
            Kind::Zip => "a ZIP archive (.keras and .npz are such)",
            Kind::Hdf5 => "an HDF5 file, as Keras writes",
            Kind::TensorFlowLite => "a TensorFlow Lite file",
            Kind::SavedModel => "a SavedModel of TensorFlow",
            Kind::Ort => "a file in onnxruntime's own format (.ort)",
            Kind::LfsPointer => "a pointer of Git LFS, in whose place the file has not been fetched yet",
            Kind::WebPage => "a web page",
            Kind::Archive => "a compressed archive",
            Kind::Empty => "no bytes at all",
            Kind::Unknown => "another format",
        }
    }

    /// How a user gets from it to a file that is read.
    pub fn way(self) -> &'static str {
        match self {
            Kind::Safetensors | Kind::Onnx => "Read it as it is",
            Kind::Torch => {
                "In PyTorch: torch.onnx.export(model.eval(), images, \"network.onnx\") for any network, or, for weights of a \
                 zoo model, safetensors.torch.save_file(torch.load(FILE, weights_only=True), \"weights.safetensors\") (what is \
                 loaded must be the state_dict itself; some files have it under \"state_dict\" or \"model\")"
            }
            Kind::Zip | Kind::Hdf5 => {
                "From Keras: model = keras.models.load_model(FILE); model.export(\"network.onnx\", format=\"onnx\")"
            }
            Kind::TensorFlowLite => "python -m tf2onnx.convert --tflite FILE --output network.onnx",
            Kind::SavedModel => "python -m tf2onnx.convert --saved-model FOLDER --output network.onnx",
            Kind::Ort => "Take the .onnx file that it was made from",
            Kind::LfsPointer => "Fetch it: git lfs pull",
            Kind::WebPage => "Download the file itself; the page may ask to be logged in",
            Kind::Archive => "Unpack it, and name the file in it",
            Kind::Empty => "Download or export it again",
            Kind::Unknown => "Export the network as ONNX, or its weights as safetensors",
        }
    }
}

/// A length, then that many bytes of JSON.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else { return false };
    let length = u64::from_le_bytes(*length);
    // Longer headers than this no reader takes.
    length <= 100 << 20 && rest.first() == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_content() {
        let safetensors: &[u8] = b"\x02\0\0\0\0\0\0\0{}";
        for (bytes, kind) in [
            (safetensors, Kind::Safetensors),
            (b"\x08\x08\x12\x07pytorch", Kind::Onnx),
            (b"\x08\x01\x12\x07unknown\x1a\x01", Kind::Onnx),
            (b"\x3a\x04abcd", Kind::Onnx),
            (b"PK\x03\x04 resnet18/data.pkl", Kind::Torch),
            (b"PK\x03\x04 metadata.json", Kind::Zip),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P", Kind::Torch),
            (b"\x89HDF\r\n\x1a\n\0", Kind::Hdf5),
            (b"\x1c\0\0\0TFL3", Kind::TensorFlowLite),
            (b"\x08\x01\x12\xe4\x0a\x0a\xd1", Kind::SavedModel),
            (b"\x08\0\0\0ORTM", Kind::Ort),
            (b"version https://git-lfs.github.com/spec/v1\n", Kind::LfsPointer),
            (b"\n<!DOCTYPE html><html>", Kind::WebPage),
            (b"\x1f\x8b\x08", Kind::Archive),
            (b"", Kind::Empty),
            (b"hello", Kind::Unknown),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
            assert!(!kind.told().is_empty() && !kind.way().is_empty());
        }
    }
}
