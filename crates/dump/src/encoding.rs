//! Encodings of dumps: names are shown as Unicode, everything else is passed on as it is.

/// How the bytes of a name become letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// UTF-8.
    #[default]
    Utf8,
    /// ISO 8859-1.
    Latin1,
    /// One that is not known here.
    Other,
    /// One in which letters may contain the bytes of a backslash or a quotation mark.
    OtherWithAsciiInside,
}

impl Encoding {
    /// The one that PostgreSQL calls so.
    pub(crate) fn by_name(name: &str) -> Encoding {
        match name.to_ascii_uppercase().as_str() {
            "UTF8" | "UNICODE" => Encoding::Utf8,
            "LATIN1" | "ISO88591" => Encoding::Latin1,
            "SJIS" | "BIG5" | "GBK" | "UHC" | "GB18030" | "JOHAB" | "SHIFT_JIS_2004" => {
                Encoding::OtherWithAsciiInside
            }
            _ => Encoding::Other,
        }
    }

    /// A name in letters; bytes that mean nothing known become `\x` and two digits, so that no two names are one.
    pub(crate) fn decode(self, bytes: &[u8]) -> String {
        if self == Encoding::Latin1 {
            return bytes.iter().copied().map(char::from).collect();
        }
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
        }
        text
    }

    /// What `SET client_encoding = 'NAME';` sets.
    pub(crate) fn of_command(sql: &[u8]) -> Option<Encoding> {
        let text = String::from_utf8_lossy(sql);
        let (_, rest) = text.split_once("client_encoding")?;
        let name = rest.split('\'').nth(1)?;
        Some(Encoding::by_name(name))
    }
}
