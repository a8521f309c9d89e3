//! What all commands share: where the node is, how to print, how much to say.

use std::path::{Path, PathBuf};

use serde_json::Value;
use url::Url;

use crate::api::{Answer, Api};
use crate::failure::{Failure, Outcome};
use crate::print::{self, Column, Format};

/// Options every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Node directory; gives the management address and the API key
    #[arg(long, global = true, env = "SHUYU_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Management address, instead of --dir (needs --key-file)
    #[arg(long, global = true, env = "SHUYU_URL", value_name = "URL", requires = "key_file")]
    pub url: Option<Url>,

    /// File with the API key, for --url
    #[arg(long, global = true, env = "SHUYU_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Form of what is written to stdout
    #[arg(long, global = true, value_enum, default_value = "table", value_name = "FORM")]
    pub output: Format,

    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more on stderr
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

impl Globals {
    /// A client of the node these options name.
    pub fn api(&self) -> Outcome<Api> {
        if let (Some(url), Some(key_file)) = (&self.url, &self.key_file) {
            return Api::new(url.clone(), read_key(key_file)?);
        }
        let dir = self.node_dir()?;
        let config = crate::node_dir::read(dir)?;
        Api::new(config.management_url()?, read_key(&dir.join("management.key"))?)
    }

    /// The node directory.
    pub fn node_dir(&self) -> Outcome<&Path> {
        self.dir.as_deref().ok_or_else(|| {
            Failure::usage("which node? give --dir DIR or set SHUYU_DIR")
                .hint("`shuyu init DIR --name NAME --did DID --role consumer` makes a node directory")
        })
    }

    /// True if stdout carries JSON.
    pub fn is_json(&self) -> bool {
        match self.output {
            Format::Json => true,
            Format::Table => false,
        }
    }

    /// A remark for the person, on stderr.
    pub fn say(&self, text: std::fmt::Arguments<'_>) {
        if !self.quiet {
            print::talk(text);
        }
    }

    /// What to do next, on stderr.
    pub fn hint(&self, text: std::fmt::Arguments<'_>) {
        self.say(format_args!("hint: {text}"));
    }

    /// A detail for the curious, on stderr.
    pub fn detail(&self, text: std::fmt::Arguments<'_>) {
        if self.verbose {
            print::talk(text);
        }
    }

    /// Writes the id of what was created, or the node's JSON.
    pub fn created(&self, answer: &Answer) -> Outcome {
        if self.is_json() { print::line(&answer.text) } else { print::line(&print::clean(answer.text_at("/id")?)) }
    }

    /// Writes a list answer; says on stderr how to get the rest.
    pub fn listing(&self, answer: &Answer, columns: &[Column]) -> Outcome {
        if self.is_json() {
            return print::line(&answer.text);
        }
        print::listing(columns, answer.items())?;
        if let Some(next) = answer.value.get("next").and_then(Value::as_str) {
            self.hint(format_args!("there is more: add --after {}", print::clean(next)));
        }
        Ok(())
    }

    /// Writes one thing as `name: value` lines.
    pub fn details(&self, answer: &Answer, fields: &[Column]) -> Outcome {
        if self.is_json() { print::line(&answer.text) } else { print::details(fields, &answer.value) }
    }

    /// Writes the JSON answer to stdout if that was asked for; a remark to stderr otherwise.
    pub fn done(&self, answer: &Answer, remark: std::fmt::Arguments<'_>) -> Outcome {
        if self.is_json() && !answer.text.is_empty() {
            return print::line(&answer.text);
        }
        self.say(remark);
        Ok(())
    }
}

/// Options of commands that list.
#[derive(Debug, Clone, clap::Args)]
pub struct Page {
    /// At most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
    /// Continue after this cursor
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
}

impl Page {
    /// As query parameters.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let limit = self.limit.map(|limit| ("limit", limit.to_string()));
        let after = self.after.clone().map(|after| ("after", after));
        limit.into_iter().chain(after).collect()
    }
}

fn read_key(path: &Path) -> Outcome<String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::invalid(format_args!("could not read the API key `{}`: {error}", path.display()))
            .hint("the file is made by `shuyu init` and readable by its owner only")
    })?;
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::invalid(format_args!("`{}` does not hold an API key", path.display())));
    }
    Ok(key.to_owned())
}

/// Reads a whole file of at most `max_bytes`; `-` is stdin.
pub fn read_file(path: &Path, max_bytes: u64) -> Outcome<Vec<u8>> {
    use std::io::Read;
    let fail = |error: std::io::Error| Failure::invalid(format_args!("could not read `{}`: {error}", path.display()));
    let mut reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(fail)?)
    };
    let mut bytes = Vec::new();
    let read = reader.by_ref().take(max_bytes + 1).read_to_end(&mut bytes).map_err(fail)?;
    if max_bytes < read as u64 {
        return Err(Failure::invalid(format_args!("`{}` is over the limit of {max_bytes} bytes", path.display())));
    }
    Ok(bytes)
}

/// Reads a JSON file with the strict parser (no duplicate members, bounded depth).
pub fn read_json(path: &Path) -> Outcome<Value> {
    let bytes = read_file(path, shuyu_base::json::MAX_MESSAGE_BYTES as u64)?;
    shuyu_base::json::parse(&bytes, shuyu_base::json::MAX_MESSAGE_BYTES)
        .map_err(|error| Failure::invalid(format_args!("`{}`: {}", path.display(), crate::failure::chain(&error))))
}
