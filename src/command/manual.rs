//! `man` and `help`: the manual's pages, and pages of the command line, made from its definition.

mod pager;
mod roff;
mod topics;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;

use clap::CommandFactory;
use clap::builder::Resettable;
use clap_mangen::Man;

use super::failure::Failure;
use super::output::{print_line, print_output};
use crate::cli::{Cli, ManArgs};
use crate::os::trust::make_folder_by_umask;
use topics::{TOPICS, Topic};

/// Shows a page by `man`, or prints its roff where standard output is no terminal; or writes all pages to a folder.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    if let Some(folder) = &args.out {
        return write_all(folder);
    }
    let page = Page::find(args.page.as_deref())?;
    let roff = page.roff()?;
    if !io::stdout().is_terminal() {
        print_output(roff)?;
    } else if !pager::show(&roff, &page.plain())? {
        print_output(page.plain())?;
    }
    Ok(())
}

/// Prints a command's help, or a topic's page in Markdown. For a word that is both, it prints both.
pub fn help(page: Option<&str>) -> Result<(), Failure> {
    print_output(Page::find(page)?.plain())
}

/// The words that `man` and `help` take, each with what it is about.
pub fn pages() -> BTreeMap<String, String> {
    let whole = Cli::command();
    let topics = TOPICS.iter().map(|topic| (topic.name.to_owned(), topic.summary.to_owned()));
    let commands = whole.get_subcommands().map(|command| {
        let about = command.get_about().map(ToString::to_string);
        (command.get_name().to_owned(), about.unwrap_or_default())
    });
    topics.chain(commands).collect()
}

fn write_all(folder: &Path) -> Result<(), Failure> {
    let opened = make_folder_by_umask(folder).map_err(Failure::with_path(folder, "can't be used"))?;
    let pages = pages();
    for name in [None].into_iter().chain(pages.keys().map(|name| Some(name.as_str()))) {
        let page = Page::find(name)?;
        let name = format!("{}.1", page.name);
        let file = folder.join(&name);
        let written = opened.write_by_umask(&name, page.roff()?.as_bytes());
        written.map_err(Failure::with_path(&file, "can't be written"))?;
    }
    print_line(format_args!("Wrote {} pages to {}.", pages.len() + 1, folder.display()));
    Ok(())
}

/// What there is to show under one word: at least one of the two.
struct Page {
    name: String,
    command: Option<clap::Command>,
    topic: Option<&'static Topic>,
}

impl Page {
    /// The page of a command or a topic; without a word, that of the program.
    fn find(word: Option<&str>) -> Result<Self, Failure> {
        let mut whole = Cli::command();
        whole.build();
        let Some(word) = word else {
            return Ok(Self { name: "agent-core".to_owned(), command: Some(whole), topic: None });
        };
        let command = whole.find_subcommand(word).cloned();
        let topic = TOPICS.iter().find(|topic| topic.name == word);
        if command.is_none() && topic.is_none() {
            let commands: Vec<&str> = whole.get_subcommands().map(clap::Command::get_name).collect();
            let (topics, commands) = (TOPICS.map(|topic| topic.name).join(", "), commands.join(", "));
            let message = format!("there is no page `{word}`\n  topics: {topics}\n  commands: {commands}");
            return Err(Failure::usage(message));
        }
        Ok(Self { name: format!("agent-core-{word}"), command, topic })
    }

    fn plain(&self) -> String {
        let help = self.command.clone().map(|mut command| command.render_help().to_string());
        let page = self.topic.map(|topic| topic.markdown.to_owned());
        [help, page].into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn roff(&self) -> Result<String, Failure> {
        // Without a date: a page that the program makes has none of its own, and the version says which page it is.
        let mut page = format!(
            ".TH \"{}\" 1 \"\" \"agent-core {}\" \"agent-core manual\"\n.nh\n.ad l\n",
            roff::escape(&self.name.to_uppercase()),
            env!("CARGO_PKG_VERSION")
        );
        if let Some(command) = &self.command {
            page += &command_sections(command)?;
            if let Some(topic) = self.topic {
                page += ".SH \"IN DETAIL\"\n";
                page += &roff::from_markdown(topic.markdown);
            }
            if is_whole(command) {
                page += ".SH TOPICS\n";
                page += &roff::from_markdown(&topic_list());
            }
            page += &roff::from_markdown(COMMON);
        } else if let Some(topic) = self.topic {
            let summary = roff::escape(topic.summary);
            page += &format!(".SH NAME\n{} \\- {summary}\n.SH DESCRIPTION\n", roff::escape(&self.name));
            page += &roff::from_markdown(topic.markdown);
        }
        Ok(page)
    }
}

fn is_whole(command: &clap::Command) -> bool {
    command.get_name() == "agent-core"
}

/// What `clap` knows of a command, without the title.
fn command_sections(command: &clap::Command) -> Result<String, Failure> {
    // The program's own help is to be read as it is set, and would be filled into lines here.
    let command = command.clone();
    let command = if is_whole(&command) { command.after_help(Resettable::Reset) } else { command };
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(Failure::context("the page can't be made"))?;
    let page = String::from_utf8_lossy(&page).into_owned();
    Ok(page.lines().filter(|line| !line.starts_with(".TH ")).map(|line| format!("{line}\n")).collect())
}

fn topic_list() -> String {
    let line = |topic: &Topic| format!("- `agent-core man {}`: {}\n", topic.name, topic.summary);
    TOPICS.iter().map(line).collect()
}

/// What every page of a command ends with.
const COMMON: &str = include_str!("manual/common.md");
