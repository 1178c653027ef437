//! Text and tokens: the model's own tokenizer and chat template.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use lutmul::checkpoint::GgufFile;
use lutmul::checkpoint::show::quoted;
use minijinja::{Environment, ErrorKind};
use serde::Serialize;
use serde_json::{Value, json};
use tokenizers::{
    DecodeStream, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, Tokenizer,
};

use crate::load::Files;

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
}

/// The tokenizer of a model, and the template of its conversations.
pub struct Text {
    tokenizer: Tokenizer,
    templates: Environment<'static>,
    /// What templates may write before and after: texts of the tokens.
    begin: String,
    end: String,
}

/// The name of the template.
const CHAT: &str = "chat";

impl Text {
    /// That of a model: tokenizer.json and the template beside it, or a GGUF file's.
    ///
    /// # Errors
    /// A tokenizer that is missing, not sound, or of a kind that is not known; a template that is not sound.
    pub fn of(files: &Files) -> Result<Self> {
        let json = files.folder.join("tokenizer.json");
        if json.is_file() || files.gguf.is_none() {
            return Self::of_folder(&files.folder);
        }
        let file = files.gguf.as_ref().expect("looked at in the line before");
        Self::of_gguf(file).with_context(|| file.path().display().to_string())
    }

    fn of_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let place = || path.display().to_string();
        let bytes = fs::read(&path).with_context(place)?;
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| anyhow!(e)).with_context(place)?;
        let path = folder.join("tokenizer_config.json");
        let place = || path.display().to_string();
        let config: Value = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(place)?,
            Err(_) => Value::Null,
        };
        // A text, or an object that has it.
        let token = |key: &str| {
            let token = config.get(key)?;
            token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
        };
        let path = folder.join("chat_template.jinja");
        let template = match fs::read_to_string(&path) {
            Ok(template) => Some(template),
            Err(_) => template_of(config.get("chat_template")),
        };
        let (begin, end) = (token("bos_token"), token("eos_token"));
        Self::new(tokenizer, template, begin, end).context(folder.display().to_string())
    }

    fn of_gguf(file: &GgufFile) -> Result<Self> {
        let bytes = serde_json::to_vec(&tokenizer_of(file)?)?;
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| anyhow!(e))?;
        let tokens = file.texts("tokenizer.ggml.tokens").unwrap_or_default();
        let token = |which: &str| {
            let id = file.number(&format!("tokenizer.ggml.{which}_token_id"))?;
            tokens.get(id as usize).map(|token| (*token).to_owned())
        };
        let template = file.text("tokenizer.chat_template").map(str::to_owned);
        Self::new(tokenizer, template, token("bos"), token("eos"))
    }

    fn new(
        tokenizer: Tokenizer,
        template: Option<String>,
        begin: Option<String>,
        end: Option<String>,
    ) -> Result<Self> {
        // As transformers sets Jinja up.
        let mut templates = Environment::new();
        templates.set_trim_blocks(true);
        templates.set_lstrip_blocks(true);
        templates.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        templates.add_function(
            "raise_exception",
            |why: String| -> Result<String, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, why))
            },
        );
        if let Some(template) = template {
            templates.add_template_owned(CHAT, template).context("the chat template")?;
        }
        let (begin, end) = (begin.unwrap_or_default(), end.unwrap_or_default());
        Ok(Self { tokenizer, templates, begin, end })
    }

    /// A conversation as the model takes it, up to where it is to answer.
    ///
    /// # Errors
    /// A model without a template, and what the template says.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let Ok(template) = self.templates.get_template(CHAT) else {
            bail!("the model has no chat template; --raw takes the prompt as it is");
        };
        let values = minijinja::context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.begin,
            eos_token => self.end,
        };
        template.render(values).context("the chat template")
    }

    /// The tokens of a text. Names of special tokens in it are those tokens.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, false).map_err(|e| anyhow!(e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens, true).map_err(|e| anyhow!(e))
    }

    /// Text of tokens as they come.
    pub fn stream(&self) -> Stream<'_> {
        Stream { text: self, inner: self.tokenizer.decode_stream(true), tokens: vec![], sent: 0 }
    }
}

/// Text of tokens as they come: characters that several tokens make are held back until they are whole.
pub struct Stream<'a> {
    text: &'a Text,
    inner: DecodeStream<
        'a,
        ModelWrapper,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >,
    tokens: Vec<u32>,
    sent: usize,
}

impl Stream<'_> {
    /// What can be shown once this token is there.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.tokens.push(token);
        let text = self.inner.step(token).map_err(|e| anyhow!(e))?.unwrap_or_default();
        self.sent += text.len();
        Ok(text)
    }

    /// What was held back, and will not be whole any more.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn finish(self) -> Result<String> {
        let text = self.text.decode(&self.tokens)?;
        Ok(text.get(self.sent..).unwrap_or_default().to_owned())
    }

    /// The tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

/// A template: a text, or the one of several that has no special use.
fn template_of(json: Option<&Value>) -> Option<String> {
    match json? {
        Value::String(template) => Some(template.clone()),
        Value::Array(all) => {
            let usual = all.iter().find(|one| one["name"] == "default").or(all.first())?;
            usual["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// What a GGUF file says of its tokenizer, as a tokenizer.json.
fn tokenizer_of(file: &GgufFile) -> Result<Value> {
    /// Kinds of tokens: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>
    const CONTROL: f64 = 3.0;
    const USER: f64 = 4.0;
    let hint = "a tokenizer.json beside the file is taken in its place";
    match file.text("tokenizer.ggml.model") {
        Some("gpt2") => {}
        Some(other) => bail!("the tokenizer {} is not read; {hint}", quoted(other)),
        None => bail!("the metadata has no tokenizer; {hint}"),
    }
    let list = |key: &str| {
        file.texts(key).with_context(|| format!("the metadata has no texts {key}; {hint}"))
    };
    let (tokens, merges) = (list("tokenizer.ggml.tokens")?, list("tokenizer.ggml.merges")?);
    let kinds = file.numbers("tokenizer.ggml.token_type").unwrap_or_default();
    let byte_level = |regex: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex,
        })
    };
    // llama.cpp's names of what texts are cut by before bytes are merged.
    let name = file.text("tokenizer.ggml.pre").unwrap_or("default");
    let cut = match name {
        "gpt-2" | "gpt2" => byte_level(true),
        "smollm" => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, byte_level(true),
        ]}),
        "llama-bpe" | "llama3" => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": LLAMA3}},
            byte_level(false),
        ]}),
        other => {
            bail!("the tokenizer's {} is none of gpt-2, smollm, llama-bpe; {hint}", quoted(other))
        }
    };
    let added = tokens
        .iter()
        .zip(&kinds)
        .enumerate()
        .filter(|(_, (_, kind))| **kind == CONTROL || **kind == USER);
    let added: Vec<Value> = added
        .map(|(id, (token, kind))| {
            json!({
                "id": id, "content": token, "special": *kind == CONTROL,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added,
        "normalizer": null, "pre_tokenizer": cut, "post_processor": null, "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": name.starts_with("llama"),
            "vocab": vocabulary, "merges": merges,
        },
    }))
}

/// What Llama 3's tokenizer.json cuts texts by.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte is a token: the first 256 characters that stand for bytes in GPT-2's way.
    fn bytes() -> Text {
        let printable = |b: &u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
        let mut other = 256..;
        let vocabulary: serde_json::Map<String, Value> = (0..256u32)
            .map(|b| {
                let c = if printable(&b) { b } else { other.next().expect("endless") };
                (char::from_u32(c).expect("a character").to_string(), b.into())
            })
            .collect();
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []},
        });
        let tokenizer = Tokenizer::from_bytes(json.to_string()).expect("a tokenizer");
        let template =
            "{{ bos_token }}{% for m in messages %}\n{{ m['content'].strip() }}|{% endfor %}";
        Text::new(tokenizer, Some(template.into()), Some("<s>".into()), None).expect("sound")
    }

    #[test]
    fn characters_are_shown_whole() {
        let text = bytes();
        let all = "a→é🙂 b";
        let tokens = text.encode(all).unwrap();
        assert_eq!(tokens.len(), all.len());
        let mut stream = text.stream();
        let parts: Vec<String> = tokens.iter().map(|t| stream.push(*t).unwrap()).collect();
        assert_eq!(parts.concat(), all);
        assert_eq!(parts.iter().filter(|part| !part.is_empty()).count(), all.chars().count());
        assert_eq!(stream.finish().unwrap(), "");

        let mut stream = text.stream();
        let parts: Vec<String> = tokens[..3].iter().map(|t| stream.push(*t).unwrap()).collect();
        assert_eq!(parts.concat(), "a", "two of three bytes of the arrow are held back");
        assert_eq!(stream.tokens().len(), 3);
        assert_eq!(stream.finish().unwrap(), "\u{FFFD}");
    }

    #[test]
    fn templates_are_python_s() {
        let text = bytes();
        let message = |role, content: &str| Message { role, content: content.into() };
        let said = [message("user", " one "), message("assistant", "two")];
        assert_eq!(text.render(&said).unwrap(), "<s>one|two|");
        let broken = Text::new(
            bytes().tokenizer,
            Some("{{ raise_exception('no system') }}".into()),
            None,
            None,
        );
        let error = format!("{:#}", broken.unwrap().render(&said).unwrap_err());
        assert!(error.contains("no system"), "{error}");
        let none = Text::new(bytes().tokenizer, None, None, None).unwrap().render(&said);
        assert!(none.unwrap_err().to_string().contains("--raw"));
    }
}
