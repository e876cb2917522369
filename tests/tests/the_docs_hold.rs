//! What the documentation shows is what the programs take and do: each configuration in it is checked by
//! the program that it is for, and each recipe is run on its own records.
//!
//! A block that is a part of a configuration gets what is missing around it. In `docs/recipes.md` the
//! fences say what a block is: `toml` a whole configuration, `json in` records, `json out` what `test`
//! prints, `sql ddl` what `ddl` prints, and one with an absolute path is a file that the configuration
//! names.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use headwater_tests::pki::{DeviceCertificate, Pki};
use headwater_tests::process::{Agent, Finished, Loader, Setup, binary};

/// What the documentation's files lie in.
const ETC: &str = "/etc/headwater";

/// A fenced block: behind which heading, what its fence says, and what is in it.
struct Block {
    heading: String,
    info: String,
    text: String,
    place: String,
}

fn documentation(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn blocks(name: &str) -> Vec<Block> {
    let page = documentation(name);
    let mut blocks: Vec<Block> = Vec::new();
    let (mut heading, mut open) = (String::new(), false);
    for (number, line) in (1..).zip(page.lines()) {
        match (line.strip_prefix("```"), open, blocks.last_mut()) {
            (Some(_), true, _) => open = false,
            (Some(info), false, _) => {
                open = true;
                blocks.push(Block {
                    heading: heading.clone(),
                    info: info.to_owned(),
                    text: String::new(),
                    place: format!("{name}:{number}"),
                });
            }
            (None, true, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            _ => {
                if let Some(text) = line.strip_prefix("## ") {
                    text.clone_into(&mut heading);
                }
            }
        }
    }
    assert!(!open, "{name}: a block has no end");
    blocks
}

fn configurations(name: &str) -> Vec<Block> {
    let mut blocks = blocks(name);
    blocks.retain(|block| block.info == "toml");
    assert!(!blocks.is_empty(), "{name} has no configuration any more");
    blocks
}

/// The table's name stands at the beginning of a line.
fn has(text: &str, table: &str) -> bool {
    text.lines().any(|line| line.trim_end() == table)
}

/// What the files of the documentation hold here, in the folder of the program that is asked.
fn with_files(setup: Setup) -> Setup {
    let dir = setup.dir().to_owned();
    let secret = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, bytes).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    };
    for name in ["spool-key", "spool-key.2025"] {
        secret(name, b"0123456789abcdef0123456789abcdef");
    }
    let pki = Pki::new();
    let device = pki.device("pi-7", DeviceCertificate::Good);
    for (name, from) in [
        ("device.crt", device.certificate),
        ("device.key", device.key),
    ] {
        secret(name, &fs::read(from).expect("it was issued"));
    }
    secret(
        "sites.csv",
        b"device,name,site,customer\npi-7,Ulm,Ulm,4711\n",
    );
    let credentials = dir.to_string_lossy().into_owned();
    setup.env("CREDENTIALS_DIRECTORY", &credentials)
}

const KAFKA: &str = "[kafka]\nbrokers = [\"localhost:9092\"]\ntopic = \"logs\"\n[kafka.security]\nallow_plaintext = true\n";

/// A part of an agent's configuration, with what is missing around it.
fn agents(part: &str) -> String {
    let mut text = "device = \"pi-7\"\nstate_dir = \"{dir}/state\"\n".to_owned();
    if !has(part, "[kafka]") {
        text += KAFKA;
    }
    match part.contains("[[file]]") && !part.contains("\nid = ") {
        true => {
            let named = "[[file]]\nid = \"app\"\npaths = [\"/var/log/app/*.log\"]";
            text += &part.replacen("[[file]]", named, 1);
        }
        false => text += part,
    }
    if !["[[file]]", "[[sensor]]", "[[journal]]"]
        .iter()
        .any(|source| has(part, source))
    {
        text += "[[file]]\nid = \"app\"\npaths = [\"/var/log/app/*.log\"]\n";
    }
    text.replace(ETC, "{dir}")
}

/// A part of a loader's configuration, with what is missing around it.
fn loaders(part: &str) -> String {
    let mut text = String::new();
    if !has(part, "[kafka]") {
        text += KAFKA;
    }
    if !has(part, "[group]") {
        text += "[group]\nid = \"loader\"\n";
    }
    if !has(part, "[output]") {
        text += "[output]\nurl = \"s3://bucket/prefix\"\n";
    }
    (text + part).replace(ETC, "{dir}")
}

fn assert_fine(checked: &Finished, place: &str, config: &str) {
    let Finished { code, stderr, .. } = checked;
    assert_eq!(*code, Some(0), "{place}: {stderr}\n{config}");
}

#[test]
fn every_configuration_that_is_shown_can_be_run() {
    for page in [
        "README.md",
        "docs/agent.md",
        "docs/loader.md",
        "docs/msk.md",
        "docs/recipes.md",
    ] {
        for Block { text, place, .. } in configurations(page) {
            let of_loader = match page {
                "docs/agent.md" => false,
                "docs/loader.md" => true,
                _ => has(&text, "[group]"),
            };
            let config = if of_loader {
                loaders(&text)
            } else {
                agents(&text)
            };
            let setup = if of_loader {
                Loader::with(&config)
            } else {
                Agent::with(&config)
            };
            let checked = with_files(setup).run("check", &[]);
            assert_fine(&checked, &place, &config);
        }
    }
}

/// A recipe: the blocks behind one heading.
struct Recipe<'a>(&'a [Block]);

impl Recipe<'_> {
    fn block(&self, info: &str) -> Option<&Block> {
        self.0.iter().find(|block| block.info == info)
    }

    fn must(&self, info: &str) -> &Block {
        let name = &self.0[0].heading;
        self.block(info)
            .unwrap_or_else(|| panic!("{name:?} has no block {info:?}"))
    }

    /// Runs it on its records: what is printed, and what the page shows.
    fn run(&self, dir: &Path) -> Vec<(&Block, String)> {
        let config = dir.join("loader.toml");
        let records = dir.join("records");
        let text = self
            .must("toml")
            .text
            .replace(ETC, &dir.display().to_string());
        fs::write(&config, text).expect("a file");
        fs::write(&records, &self.must("json in").text).expect("a file");
        for block in self.0 {
            if let Some((_, path)) = block.info.split_once(&format!(" {ETC}/")) {
                fs::write(dir.join(path), &block.text).expect("a file");
            }
        }
        let mut ran = vec![(self.must("json out"), ask("test", &config, Some(&records)))];
        if let Some(block) = self.block("sql ddl") {
            ran.push((block, ask("ddl", &config, None)));
        }
        ran
    }
}

/// What a command of the loader prints.
fn ask(command: &str, config: &PathBuf, input: Option<&PathBuf>) -> String {
    let mut process = Command::new(binary("headwater-loader"));
    process.arg(command).arg("--config").arg(config);
    if let Some(input) = input {
        process.stdin(File::open(input).expect("the records"));
    }
    let output = process.output().expect("the loader runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_recipe_makes_what_it_shows() {
    let blocks = blocks("docs/recipes.md");
    let recipes: Vec<Recipe<'_>> = blocks
        .chunk_by(|a, b| a.heading == b.heading)
        .map(Recipe)
        .collect();
    assert!(recipes.len() > 5, "recipes are missing");
    let mut wrong = String::new();
    for recipe in recipes {
        let dir = tempfile::tempdir().expect("a folder");
        for (block, printed) in recipe.run(dir.path()) {
            if block.text != printed {
                wrong += &format!(
                    "{} {:?} shows\n{}and is\n{printed}",
                    block.place, block.heading, block.text
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
