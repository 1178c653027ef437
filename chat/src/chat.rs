//! `lutmul-chat MODEL`: a prompt, or a conversation.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use lutmul_cli::progress;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::load::Files;
use crate::options::{Linears, on_threads};
use crate::sample::Sampler;
use crate::session::{Answer, Ending, Session};
use crate::text::{Message, Text};

/// What a chat is told.
#[derive(clap::Args)]
pub struct Args {
    /// The model: the folder of a Hugging Face model (Llama's or Phi-3's architecture), or a GGUF file
    model: Option<PathBuf>,
    /// What to say. Without it, what comes through a pipe, or a conversation
    #[arg(long, short)]
    prompt: Option<String>,
    /// What the model is told before, in place of what its template says
    #[arg(long)]
    system: Option<String>,
    /// Take the prompt as it is, without the model's template, and continue it
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    #[command(flatten)]
    linears: Linears,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive)]
    max_tokens: usize,
    /// The most tokens of a conversation [default: the model's]
    #[arg(long, value_name = "N", value_parser = positive)]
    context: Option<usize>,
    /// How freely tokens are chosen; 0 always takes the most likely one
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = temperature)]
    temperature: f32,
    /// Choose among the most likely tokens that have this share of the probability
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = share)]
    top_p: f32,
    /// The seed of what is chosen
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A number from 1 on.
pub fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "not a number from 1 on".into())
}

fn temperature(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|t: &f32| t.is_finite() && *t >= 0.0);
    value.ok_or_else(|| "not a number from 0 on".into())
}

fn share(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|p: &f32| (0.0..=1.0).contains(p));
    value.ok_or_else(|| "not a number from 0 to 1".into())
}

impl Args {
    /// Chats. Answers go to `out`, figures and everything else to standard error.
    ///
    /// # Errors
    /// Models that cannot be loaded, prompts that are empty or too long, output.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        on_threads(self.linears.threads, || self.chat(out))
    }

    fn chat(self, out: &mut (dyn Write + Send)) -> Result<()> {
        let path = self.model.as_ref().context("no model is named")?;
        progress::catch_interrupts();
        // Read before the model, so that nothing is loaded for nothing.
        let prompt = match &self.prompt {
            Some(prompt) => Some(prompt.clone()),
            None if io::stdin().is_terminal() => None,
            None => {
                let mut prompt = String::new();
                io::stdin().read_to_string(&mut prompt).context("standard input")?;
                Some(prompt)
            }
        };
        if let Some(prompt) = &prompt {
            ensure!(!prompt.trim().is_empty(), "the prompt is empty");
        }
        let files = Files::open(path)?;
        let text = Text::of(&files)?;
        let longest = files.config.context;
        let context = self.context.unwrap_or(files.config.usual_context());
        ensure!(context <= longest, "--context {context}: the model was made for {longest} tokens");
        let (products, coding) = (self.linears.context()?, self.linears.coding()?);
        let model = files.load(&coding)?;
        if prompt.is_none() {
            let codings = model.codings();
            let codings: Vec<String> =
                codings.iter().map(|(name, count)| format!("{count} × {name}")).collect();
            eprintln!("{}: {}; mode {}", path.display(), codings.join(", "), self.linears.mode());
            eprintln!("Ctrl-D ends, /new begins anew, Ctrl-C stops an answer.");
        }
        let sampler = Sampler::new(self.temperature, self.top_p, self.seed);
        let limits = (context, self.max_tokens);
        let session = Session::new((&model, &text), products, sampler, limits);
        match prompt {
            Some(prompt) => self.once(session, prompt, out),
            None => self.converse(session, out),
        }
    }

    /// What comes before a user's first words.
    fn beginning(&self) -> Vec<Message> {
        let system = self.system.clone().map(|content| Message { role: "system", content });
        system.into_iter().collect()
    }

    fn once(&self, mut session: Session<'_>, prompt: String, out: &mut dyn Write) -> Result<()> {
        let answer = if self.raw {
            session.complete(&prompt, out)?
        } else {
            let mut messages = self.beginning();
            messages.push(Message { role: "user", content: prompt });
            session.answer(&messages, out)?
        };
        end(&answer, out)?;
        if answer.ending == Ending::Interrupted {
            bail!("interrupted");
        }
        Ok(())
    }

    fn converse(&self, mut session: Session<'_>, out: &mut dyn Write) -> Result<()> {
        let mut editor = DefaultEditor::new().context("the terminal")?;
        let mut messages = self.beginning();
        loop {
            let line = match editor.readline("> ") {
                Ok(line) => line,
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
                Err(error) => return Err(error).context("the terminal"),
            };
            match line.trim() {
                "" => continue,
                "/new" => {
                    messages = self.beginning();
                    continue;
                }
                _ => {}
            }
            // Fails where there is no room, which costs the line only.
            let _ = editor.add_history_entry(&line);
            messages.push(Message { role: "user", content: line.clone() });
            let answer = match self.raw {
                true => session.complete(&line, out),
                false => session.answer(&messages, out),
            };
            match answer {
                Ok(answer) => {
                    end(&answer, out)?;
                    messages.push(Message { role: "assistant", content: answer.text });
                }
                // A conversation that has become too long goes on from before.
                Err(error) => {
                    messages.pop();
                    eprintln!("error: {error:#}");
                }
            }
        }
    }
}

fn end(answer: &Answer, out: &mut dyn Write) -> Result<()> {
    writeln!(out)?;
    out.flush()?;
    eprintln!("{}", answer.figures());
    Ok(())
}
