//! `shuyu pull`: a governed result as a file. An interrupted download goes on where it stopped, after a kill as well:
//! `FILE.part` holds the bytes, `FILE.part.json` says of which result.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::{Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use crate::access::{self, Access};
use crate::context::Globals;
use crate::failure::{Failure, Outcome, chain};
use crate::print;

/// Breaks without a single byte of progress after which the download is given up for now.
const MAX_FRUITLESS: u32 = 3;

/// Longest silence of the provider before the connection counts as broken.
const SILENCE: Duration = Duration::from_secs(60);

/// What to download.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  id=$(shuyu transfer start --contract urn:uuid:... --format http-pull)
  shuyu pull $id -o flights.parquet --purpose research
  shuyu pull $id -o late.csv --format csv --sql 'SELECT * FROM flights WHERE delay > 60'

If it is interrupted, the same command goes on where it stopped; it counts as one use. The file appears under
its name only when it is whole and its BLAKE3 is the one the provider stated.")]
pub struct Pull {
    /// The transfer's id, of format http-pull
    transfer: String,
    /// File to write; must not exist
    #[arg(short = 'o', long = "file", value_name = "FILE")]
    file: PathBuf,
    /// Format of the file
    #[arg(long, value_enum, default_value = "parquet")]
    format: FileForm,
    /// Query whose result is wanted, instead of the whole governed table
    #[arg(long, value_name = "SELECT ...")]
    sql: Option<String>,
    /// Purpose of the use, as the contract asks for one
    #[arg(long)]
    purpose: Option<String>,
}

/// Formats of a downloaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FileForm {
    Parquet,
    Csv,
    /// Arrow IPC stream
    Arrow,
    /// One JSON object a line
    Json,
}

impl FileForm {
    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
            Self::Json => "json",
        }
    }
}

/// What `FILE.part` is a part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartState {
    /// The request, without its token.
    url: String,
    /// Strong entity tag of the result (RFC 9110 section 8.8.3); it names the content.
    etag: String,
}

/// The end of a download.
struct Done {
    use_id: Option<String>,
    blake3: Option<String>,
}

/// Runs `shuyu pull`.
pub async fn run(globals: &Globals, wish: &Pull) -> Outcome {
    if wish.file.exists() {
        return Err(
            Failure::failed(format_args!("`{}` exists", wish.file.display())).hint("remove it, or choose another name")
        );
    }
    let download = Download::new(globals, wish);
    let mut fruitless = 0;
    let done = loop {
        let before = download.have()?;
        match download.go_on().await {
            Ok(Some(done)) => break done,
            Ok(None) if before < download.have()? => fruitless = 0,
            Ok(None) => fruitless += 1,
            Err(failure) => return Err(failure),
        }
        if fruitless == MAX_FRUITLESS {
            return Err(Failure::failed("the provider breaks off again and again")
                .hint("the same command goes on where it stopped"));
        }
        globals.detail(format_args!("the connection broke after {} bytes; going on", download.have()?));
    };
    let hash = download.check(&done)?;
    std::fs::rename(&download.part, &wish.file).map_err(|error| writing(&wish.file, &error))?;
    let _ = std::fs::remove_file(&download.state);
    download.receipt(&done).await?;
    let size = std::fs::metadata(&wish.file).map(|found| found.len()).unwrap_or_default();
    globals.say(format_args!("{size} bytes, BLAKE3 {hash} as the provider stated"));
    if globals.is_json() {
        return print::line(&json!({"file": wish.file, "bytes": size, "blake3": hash, "use": done.use_id}).to_string());
    }
    print::line(&wish.file.display().to_string())
}

struct Download<'a> {
    globals: &'a Globals,
    wish: &'a Pull,
    part: PathBuf,
    state: PathBuf,
    bar: ProgressBar,
}

impl<'a> Download<'a> {
    fn new(globals: &'a Globals, wish: &'a Pull) -> Self {
        let bar = if globals.quiet || !print::is_watched() {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
        } else {
            ProgressBar::no_length()
        };
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta}")
        {
            bar.set_style(style);
        }
        let beside = |ending: &str| {
            let mut name = wish.file.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        Self { globals, wish, part: beside(".part"), state: beside(".part.json"), bar }
    }

    /// Bytes that are here.
    fn have(&self) -> Outcome<u64> {
        match std::fs::metadata(&self.part) {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(writing(&self.part, &error)),
        }
    }

    /// One request. `None` if the connection broke; what came is kept.
    async fn go_on(&self) -> Outcome<Option<Done>> {
        let access = access::of(self.globals, &self.wish.transfer).await?;
        let url = self.url(&access)?;
        let known = read_state(&self.state).filter(|state| state.url == url.as_str());
        let have = if known.is_some() { self.have()? } else { 0 };
        let mut request = access::http(self.globals, SILENCE)?.get(url.clone()).bearer_auth(&access.bearer);
        if let Some(state) = &known {
            // A result that was spooled and not fully sent goes on under the same use, even from byte 0.
            request = request.header(header::RANGE, format!("bytes={have}-")).header(header::IF_RANGE, &state.etag);
        }
        let Ok(response) = request.send().await else { return Ok(None) };
        let done =
            |response: &Response| Done { use_id: text(response, "shuyu-use"), blake3: text(response, "shuyu-blake3") };
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::RANGE_NOT_SATISFIABLE if total_of(&response) == Some(have) => {
                // Everything is here; only the last answer was lost.
                return Ok(Some(Done { use_id: None, blake3: known.and_then(|state| blake3_of(&state.etag)) }));
            }
            status => return Err(access::refusal(status, response).await),
        }
        let start = if response.status() == StatusCode::PARTIAL_CONTENT { start_of(&response)? } else { 0 };
        if start != have && start != 0 {
            return Err(Failure::failed(format_args!(
                "the provider sent bytes from {start}, asked for were those from {have}"
            )));
        }
        let etag = text(&response, "etag").unwrap_or_default();
        write_state(&self.state, &PartState { url: url.into(), etag })?;
        let ends = done(&response);
        let is_whole = self.receive(response, start).await?;
        Ok(is_whole.then_some(ends))
    }

    fn url(&self, access: &Access) -> Outcome<Url> {
        let endpoint = access.http_endpoint.as_deref().ok_or_else(|| {
            Failure::failed("this transfer has no HTTP access")
                .hint("start one with `shuyu transfer start --format http-pull`")
        })?;
        let mut url: Url = endpoint
            .parse()
            .map_err(|error| Failure::failed(format_args!("the provider's address `{endpoint}`: {error}")))?;
        {
            let mut pairs = url.query_pairs_mut();
            pairs.append_pair("format", self.wish.format.name());
            if let Some(sql) = &self.wish.sql {
                pairs.append_pair("sql", sql);
            }
            if let Some(purpose) = &self.wish.purpose {
                pairs.append_pair("purpose", purpose);
            }
        }
        Ok(url)
    }

    /// Appends the body at `start`. True if all of it came.
    async fn receive(&self, mut response: Response, start: u64) -> Outcome<bool> {
        let fail = |error: std::io::Error| writing(&self.part, &error);
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.part).map_err(fail)?;
        file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start))).map_err(fail)?;
        let length = response.content_length();
        let end = length.map(|length| start + length);
        if let Some(end) = end {
            self.bar.set_length(end);
        }
        let mut at = start;
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    file.write_all(&chunk).map_err(fail)?;
                    at += chunk.len() as u64;
                    self.bar.set_position(at);
                }
                Ok(None) => break,
                Err(error) => {
                    self.globals.detail(format_args!("{}", chain(&error)));
                    return Ok(false);
                }
            }
        }
        file.sync_all().map_err(fail)?;
        Ok(end.is_none_or(|end| end == at))
    }

    /// Compares the file's BLAKE3 with the one stated; a file that differs is removed.
    fn check(&self, done: &Done) -> Outcome<String> {
        let mut file = File::open(&self.part).map_err(|error| writing(&self.part, &error))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).map_err(|error| writing(&self.part, &error))?;
            if read == 0 {
                break;
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
        let hash = hasher.finalize().to_hex().to_string();
        match &done.blake3 {
            Some(stated) if *stated == hash => Ok(hash),
            Some(stated) => {
                let _ = std::fs::remove_file(&self.part);
                let _ = std::fs::remove_file(&self.state);
                let failure = Failure::refused("what came is not what the provider stated");
                Err(failure.because(vec![format!("BLAKE3 is {hash}, stated was {stated}")]).hint("download it again"))
            }
            None => Err(Failure::refused("the provider stated no BLAKE3, so the file cannot be checked")),
        }
    }

    /// Fetches the provider's receipt and gives it to the own node as evidence.
    async fn receipt(&self, done: &Done) -> Outcome {
        let Some(use_id) = &done.use_id else { return Ok(()) };
        let access = access::of(self.globals, &self.wish.transfer).await?;
        let Some(endpoint) = &access.http_endpoint else { return Ok(()) };
        let url = crate::api::path(&format!("{}/receipts", endpoint.trim_end_matches('/')), use_id, "");
        let answer = access::http(self.globals, SILENCE)?.get(url).bearer_auth(&access.bearer).send().await;
        let answer = answer.map_err(|error| Failure::failed(chain(&error)))?;
        if !answer.status().is_success() {
            return Err(access::refusal(answer.status(), answer).await);
        }
        let receipt = answer.text().await.map_err(|error| Failure::failed(chain(&error)))?;
        access::keep_receipt(self.globals, &receipt).await
    }
}

fn read_state(path: &Path) -> Option<PartState> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write_state(path: &Path, state: &PartState) -> Outcome {
    let text = serde_json::to_string(state).map_err(|error| Failure::failed(error.to_string()))?;
    std::fs::write(path, text).map_err(|error| writing(path, &error))
}

fn writing(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format_args!("`{}`: {error}", path.display()))
}

fn text(response: &Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// The provider's entity tag is `"b3-<BLAKE3 in hexadecimal>"`.
fn blake3_of(etag: &str) -> Option<String> {
    Some(etag.strip_prefix("\"b3-")?.strip_suffix('"')?.to_owned())
}

/// The first byte of `Content-Range: bytes FIRST-LAST/TOTAL` (RFC 9110 section 14.4).
fn start_of(response: &Response) -> Outcome<u64> {
    let range = text(response, "content-range").unwrap_or_default();
    parse_start(&range)
        .ok_or_else(|| Failure::failed(format_args!("the provider's `Content-Range` is malformed: {range}")))
}

fn parse_start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

fn total_of(response: &Response) -> Option<u64> {
    text(response, "content-range")?.strip_prefix("bytes */")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_tags_are_read() {
        assert_eq!(parse_start("bytes 500-999/1000"), Some(500));
        assert_eq!(parse_start("bytes */1000"), None);
        assert_eq!(blake3_of("\"b3-ab\"").as_deref(), Some("ab"));
        assert_eq!(blake3_of("W/\"b3-ab\""), None);
    }

    #[test]
    fn a_part_of_something_else_is_not_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.part.json");
        let state = PartState { url: "https://a.example/data/1?format=csv".to_owned(), etag: "\"b3-1\"".to_owned() };
        write_state(&file, &state).unwrap();
        assert_eq!(read_state(&file), Some(state));
        std::fs::write(&file, "{").unwrap();
        assert_eq!(read_state(&file), None);
    }
}
