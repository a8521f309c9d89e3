//! `shuyu asset`: the tables a holder's node knows.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::api::path;
use crate::context::{Globals, Page};
use crate::failure::Outcome;
use crate::print;

/// Commands about assets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell the node about a table: a file or a folder of files, here or in an object store
    #[command(after_help = "Examples:
  shuyu asset add flights --location /data/flights-3m.parquet --format parquet --title 'US flights, 2001'
  shuyu asset add weather --location s3://bucket/weather/ --format csv --keyword weather --keyword seattle

An asset is not published until an offer names it: see `shuyu offer add --help`.")]
    Add(Add),
    /// List the assets of the node
    #[command(after_help = "Example:\n  shuyu asset list --output json")]
    List(Page),
    /// Show one asset with its columns
    #[command(after_help = "Example:\n  shuyu asset show flights")]
    Show(Id),
    /// Forget an asset; refused while an offer names it. The files stay
    #[command(after_help = "Example:\n  shuyu asset remove flights")]
    Remove(Id),
}

/// Which asset.
#[derive(Debug, Args)]
pub struct Id {
    /// The asset's id
    id: String,
}

/// A new asset.
#[derive(Debug, Args)]
pub struct Add {
    /// Id by which policies, offers and peers name it
    id: String,
    /// Path or URL of the file, or of a folder ending in `/`
    #[arg(long, value_name = "PATH|URL")]
    location: String,
    /// Format of the file; by default from its ending
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Name of the table in SQL; by default the id
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// One line for the catalogue; by default the id
    #[arg(long)]
    title: Option<String>,
    /// A longer text for the catalogue
    #[arg(long, default_value = "")]
    description: String,
    /// A word to find it by; may be repeated
    #[arg(long = "keyword", value_name = "WORD")]
    keywords: Vec<String>,
}

/// File formats a governed table can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    Parquet,
    Csv,
    /// One JSON object a line
    Ndjson,
}

impl FileFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// From the ending of a file name.
    fn of(location: &str) -> Option<Self> {
        match location.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            _ => None,
        }
    }
}

/// Runs a command about assets.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Add(asset) => add(globals, asset).await,
        Command::List(page) => {
            let answer = globals.api()?.get_with("v1/assets", &page.query()).await?;
            globals.listing(
                &answer,
                &[
                    ("ID", "/id"),
                    ("TABLE", "/table"),
                    ("FORMAT", "/format"),
                    ("TITLE", "/title"),
                    ("LOCATION", "/location"),
                ],
            )
        }
        Command::Show(Id { id }) => show(globals, id).await,
        Command::Remove(Id { id }) => {
            let answer = globals.api()?.delete(&path("v1/assets", id, "")).await?;
            globals.done(&answer, format_args!("removed asset {id}; its files are untouched"))
        }
    }
}

async fn add(globals: &Globals, asset: &Add) -> Outcome {
    use crate::failure::Failure;
    let format = asset.format.or_else(|| FileFormat::of(&asset.location)).ok_or_else(|| {
        Failure::usage("the ending of --location does not tell the format").hint("add --format parquet, csv or ndjson")
    })?;
    let location = absolute(&asset.location)?;
    let body = json!({
        "id": asset.id,
        "title": asset.title.as_ref().unwrap_or(&asset.id),
        "description": asset.description,
        "keywords": asset.keywords,
        "table": asset.table.as_ref().unwrap_or(&asset.id),
        "location": location,
        "format": format.name(),
    });
    let answer = globals.api()?.post("v1/assets", &body).await?;
    globals.created(&answer)?;
    if let Some(columns) = answer.value.pointer("/schema").and_then(|schema| schema.as_array()) {
        globals.say(format_args!("asset {} has {} columns", asset.id, columns.len()));
    }
    globals.hint(format_args!("publish it with `shuyu offer add --asset {} --policy POLICY`", asset.id));
    Ok(())
}

/// The node may run elsewhere in the file system than this command: a path is sent absolute.
fn absolute(location: &str) -> Outcome<String> {
    use crate::failure::Failure;
    if location.contains("://") {
        return Ok(location.to_owned());
    }
    let fail = |reason: &str| Failure::invalid(format_args!("--location `{location}`: {reason}"));
    let path = std::fs::canonicalize(location).map_err(|error| fail(&error.to_string()))?;
    let is_dir = path.is_dir();
    let text = path.into_os_string().into_string().map_err(|_| fail("the path is not UTF-8"))?;
    Ok(if is_dir { format!("{text}/") } else { text })
}

async fn show(globals: &Globals, id: &str) -> Outcome {
    let answer = globals.api()?.get(&path("v1/assets", id, "")).await?;
    globals.details(
        &answer,
        &[
            ("id", "/id"),
            ("title", "/title"),
            ("description", "/description"),
            ("keywords", "/keywords"),
            ("table", "/table"),
            ("format", "/format"),
            ("location", "/location"),
        ],
    )?;
    if globals.is_json() {
        return Ok(());
    }
    let columns = answer.value.pointer("/schema").and_then(|schema| schema.as_array());
    print::line("")?;
    print::listing(&[("COLUMN", "/name"), ("TYPE", "/type")], columns.map(Vec::as_slice).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_tells_the_format() {
        assert_eq!(FileFormat::of("/a/b.PARQUET"), Some(FileFormat::Parquet));
        assert_eq!(FileFormat::of("s3://x/y.jsonl"), Some(FileFormat::Ndjson));
        assert_eq!(FileFormat::of("/a.b/c"), None);
    }
}
