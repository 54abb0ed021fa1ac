//! The formats of trace files.
//!
//! | format | a request |
//! | --- | --- |
//! | `u32` | object id, 4 bytes, little-endian |
//! | `text` | a line of time, object id and bytes, between spaces, tabs or commas; the time is not used; empty lines and lines from `#` are skipped |
//! | `oraclegeneral` | libCacheSim's binary: time (4 bytes), object id (8), bytes (4), index of the object's next request (8, not used), little-endian |
//!
//! Each may be compressed with gzip, then its name ends in `.gz`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use flate2::bufread::MultiGzDecoder;

use super::trace::{Trace, TraceBuilder, TraceError};

/// A format; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Ids alone.
    U32,
    /// Lines of time, id and bytes.
    Text,
    /// libCacheSim's binary records.
    #[value(name = "oraclegeneral")]
    OracleGeneral,
}

impl Format {
    /// The format that a file's name tells.
    pub fn of_name(name: &str) -> Option<Format> {
        let name = name.to_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let extension = name.rsplit_once('.')?.1;
        match extension {
            "u32" => Some(Format::U32),
            "txt" | "csv" => Some(Format::Text),
            "oraclegeneral" => Some(Format::OracleGeneral),
            "bin" if name.ends_with(".oraclegeneral.bin") => Some(Format::OracleGeneral),
            _ => None,
        }
    }
}

/// A file that is no trace.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its name does not tell what it is.
    #[error(
        "{}: the name does not tell the format (.u32, .txt, .csv, .oracleGeneral, .oracleGeneral.bin, \
         each also with .gz); say it with --format",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line is not what it should be.
    #[error("{}: line {line} is not TIME ID BYTES", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
    },
    /// It cannot be held.
    #[error("{}: {error}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Why.
        error: TraceError,
    },
}

/// What a reader met, before the file's name is added.
#[derive(Debug)]
enum Fault {
    Io(io::Error),
    Line(u64),
    Trace(TraceError),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl From<TraceError> for Fault {
    fn from(error: TraceError) -> Fault {
        Fault::Trace(error)
    }
}

/// Reads a trace, in the given format or the one that its name tells. The trace is called
/// as the file without its extensions.
///
/// # Errors
/// See [`ReadError`].
pub fn read_file(path: &Path, format: Option<Format>) -> Result<Trace, ReadError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let format = format
        .or_else(|| Format::of_name(&name))
        .ok_or_else(|| ReadError::UnknownFormat { path: path.to_owned() })?;
    let trace = File::open(path).map_err(Fault::Io).and_then(|file| {
        let file = BufReader::with_capacity(1 << 16, file);
        let mut builder = TraceBuilder::default();
        if name.to_lowercase().ends_with(".gz") {
            read(
                BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file)),
                format,
                &mut builder,
            )?;
        } else {
            read(file, format, &mut builder)?;
        }
        let stem = name.split_once('.').map_or(&*name, |(stem, _)| stem);
        Ok(builder.finish(stem.to_owned())?)
    });
    let path = || path.to_owned();
    trace.map_err(|fault| match fault {
        Fault::Io(error) => ReadError::Io { path: path(), error },
        Fault::Line(line) => ReadError::Line { path: path(), line },
        Fault::Trace(error) => ReadError::Trace { path: path(), error },
    })
}

fn read(input: impl BufRead, format: Format, builder: &mut TraceBuilder) -> Result<(), Fault> {
    match format {
        Format::U32 => read_u32(input, builder),
        Format::Text => read_text(input, builder),
        Format::OracleGeneral => read_oracle_general(input, builder),
    }
}

fn read_u32(mut input: impl BufRead, builder: &mut TraceBuilder) -> Result<(), Fault> {
    while let Some(record) = read_record::<4>(&mut input)? {
        builder.push(u64::from(u32::from_le_bytes(record)))?;
    }
    Ok(())
}

fn read_oracle_general(mut input: impl BufRead, builder: &mut TraceBuilder) -> Result<(), Fault> {
    while let Some([_, _, _, _, record @ ..]) = read_record::<24>(&mut input)? {
        let (id, record) = record.split_first_chunk().expect("a record has an id");
        let (bytes, _) = record.split_first_chunk().expect("a record has a size");
        builder.push_sized(u64::from_le_bytes(*id), u32::from_le_bytes(*bytes))?;
    }
    Ok(())
}

/// Reads a record of a fixed length; nothing at the end of the input.
fn read_record<const BYTES: usize>(input: &mut impl BufRead) -> io::Result<Option<[u8; BYTES]>> {
    if input.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut record = [0; BYTES];
    match input.read_exact(&mut record) {
        Ok(()) => Ok(Some(record)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(io::Error::new(
            error.kind(),
            format!("the file ends within a record of {BYTES} bytes"),
        )),
        Err(error) => Err(error),
    }
}

fn read_text(mut input: impl BufRead, builder: &mut TraceBuilder) -> Result<(), Fault> {
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            break;
        }
        let words = line.split('#').next().unwrap_or_default();
        let mut words = words.split([' ', '\t', ',', '\r', '\n']).filter(|word| !word.is_empty());
        let Some(_time) = words.next() else { continue };
        let id = words.next().and_then(|word| word.parse().ok());
        let bytes = words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(id), Some(bytes)) = (id, bytes) else { return Err(Fault::Line(number)) };
        builder.push_sized(id, u32::try_from(bytes).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn built(bytes: &[u8], format: Format) -> Result<Trace, Fault> {
        let mut builder = TraceBuilder::default();
        // A small buffer, so that records lie across its end.
        read(BufReader::with_capacity(7, bytes), format, &mut builder)?;
        Ok(builder.finish("test".to_owned())?)
    }

    #[test]
    fn formats_are_told_by_names() {
        let check = |name: &str, expected| assert_eq!(Format::of_name(name), expected, "{name}");
        check("a.u32", Some(Format::U32));
        check("a.b.u32.gz", Some(Format::U32));
        check("sizes.txt.gz", Some(Format::Text));
        check("sizes.csv", Some(Format::Text));
        check("w92.oracleGeneral", Some(Format::OracleGeneral));
        check("w92.oracleGeneral.bin.gz", Some(Format::OracleGeneral));
        check("w92.bin", None);
        check("u32", None);
        check("a.gz", None);
    }

    #[test]
    fn ids_are_read() {
        let bytes: Vec<u8> =
            [5u32, 1, 5, u32::MAX].iter().flat_map(|id| id.to_le_bytes()).collect();
        let trace = built(&bytes, Format::U32).unwrap();
        assert_eq!(
            (trace.requests(), trace.ids()),
            (&[0, 1, 0, 2][..], &[5, 1, u64::from(u32::MAX)][..])
        );
        assert_eq!(trace.bytes(), None);
        let Err(Fault::Io(error)) = built(&bytes[..15], Format::U32) else { panic!("cut short") };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(matches!(built(&[], Format::U32), Err(Fault::Trace(TraceError::Empty))));
    }

    #[test]
    fn lines_are_read() {
        let text =
            "# time id bytes\n1 70 100\n\n2.5,7,0\n3\t70\t200 # again\n4 9 5000000000\r\n5 7 1";
        let trace = built(text.as_bytes(), Format::Text).unwrap();
        assert_eq!((trace.requests(), trace.ids()), (&[0, 1, 0, 2, 1][..], &[70, 7, 9][..]));
        assert_eq!(trace.bytes(), Some(&[100, 1, u32::MAX][..]));
        for wrong in ["1 2 3\n1 2\n", "1 2 3\n1 x 3\n", "1 2 3\n1 2 -3\n", "1 2 3\n1\n"] {
            assert!(
                matches!(built(wrong.as_bytes(), Format::Text), Err(Fault::Line(2))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn oracle_general_records_are_read() {
        let mut bytes = Vec::new();
        for (time, id, size, next) in
            [(1u32, u64::MAX, 100u32, 2i64), (2, 4, 30, -1), (9, u64::MAX, 7, -1)]
        {
            bytes.extend(time.to_le_bytes());
            bytes.extend(id.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend(next.to_le_bytes());
        }
        let trace = built(&bytes, Format::OracleGeneral).unwrap();
        assert_eq!((trace.requests(), trace.ids()), (&[0, 1, 0][..], &[u64::MAX, 4][..]));
        assert_eq!(trace.bytes(), Some(&[100, 30][..]));
    }

    #[test]
    fn files_are_read_plain_and_compressed() {
        let directory = std::env::temp_dir();
        let path =
            |end: &str| directory.join(format!("corelane-replay-{}.{end}", std::process::id()));
        let (plain, compressed) = (path("txt"), path("txt.gz"));
        let text = b"1 2 3\n2 3 4\n3 2 3\n";
        std::fs::write(&plain, text).unwrap();
        // Two members, as tools that append write them.
        let mut file = File::create(&compressed).unwrap();
        for half in [&text[..6], &text[6..]] {
            let mut encoder = GzEncoder::new(&mut file, Compression::default());
            encoder.write_all(half).unwrap();
            encoder.finish().unwrap();
        }
        let (one, other) = (read_file(&plain, None), read_file(&compressed, None));
        let forced = read_file(&plain, Some(Format::U32));
        std::fs::remove_file(&plain).unwrap();
        std::fs::remove_file(&compressed).unwrap();
        let one = one.unwrap();
        assert_eq!(one, other.unwrap());
        assert_eq!(one.requests(), [0, 1, 0]);
        assert!(matches!(forced, Err(ReadError::Io { .. })));
        assert!(matches!(read_file(&plain, None), Err(ReadError::Io { .. })));
        assert!(matches!(read_file(&path("bin"), None), Err(ReadError::UnknownFormat { .. })));
    }
}
