//! Requests as a client writes them: well-formed unless a test breaks them on purpose.

use crate::config::TENANT_KEY;
use crate::http::{BodyDecoder, Framing, LAST_CHUNK, chunk};

/// The host that requests are for, and that certificates of the gateway have to name.
pub const HOST: &str = "gateway.test";

/// A request being put together.
#[derive(Clone, Debug)]
pub struct Request {
    line: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// Any method and target; carries `Host` and the key of the default tenant.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            line: format!("{method} {target} HTTP/1.1"),
            fields: vec![
                ("Host".to_owned(), HOST.to_owned()),
                ("Authorization".to_owned(), format!("Bearer {TENANT_KEY}")),
            ],
            body: Vec::new(),
        }
    }

    /// GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// POST of a JSON body.
    pub fn post(target: &str, json: impl AsRef<[u8]>) -> Self {
        Self::new("POST", target)
            .field("Content-Type", "application/json")
            .body(json)
    }

    /// POST to the Responses API that asks for a plain answer.
    pub fn plain() -> Self {
        Self::post("/v1/responses", br#"{"model":"gpt-5","input":"say hi"}"#)
    }

    /// POST to the Responses API that asks for a stream.
    pub fn streamed() -> Self {
        Self::post(
            "/v1/responses",
            br#"{"model":"gpt-5","stream":true,"input":"say hi"}"#,
        )
    }

    /// Speaks HTTP/1.0.
    pub fn http10(mut self) -> Self {
        self.line = self.line.replace("HTTP/1.1", "HTTP/1.0");
        self
    }

    /// Adds a field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a field out (the default `Host` or `Authorization`).
    pub fn without(mut self, name: &str) -> Self {
        self.fields
            .retain(|field| !field.0.eq_ignore_ascii_case(name));
        self
    }

    /// Puts this key, and no other, into `Authorization`.
    pub fn key(self, key: &str) -> Self {
        self.without("Authorization")
            .field("Authorization", &format!("Bearer {key}"))
    }

    /// Names the request, so that its log line can be found.
    pub fn id(self, id: &str) -> Self {
        self.field("X-Request-Id", id)
    }

    /// Body with a Content-Length.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        let length = self.body.len().to_string();
        self.field("Content-Length", &length)
    }

    /// Body in these chunks.
    pub fn chunked(mut self, chunks: &[&[u8]]) -> Self {
        self.body = chunks.iter().flat_map(|payload| chunk(payload)).collect();
        self.body.extend_from_slice(LAST_CHUNK);
        self.field("Transfer-Encoding", "chunked")
    }

    /// The head alone.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// The body alone, framed.
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// The whole request.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The same for HTTP/2: the fields, with those of HTTP/1.1's framing and the body's chunks taken out.
    ///
    /// # Panics
    /// If it is none that HTTP/2 could send.
    pub fn http2(&self) -> (Vec<(String, String)>, Vec<u8>) {
        let mut line = self.line.split(' ');
        let mut pseudo = |name: &str| (name.to_owned(), line.next().expect("a part").to_owned());
        let (method, path) = (pseudo(":method"), pseudo(":path"));
        let scheme = (":scheme".to_owned(), "http".to_owned());
        let mut fields = vec![method, scheme, path];
        let mut body = self.body.clone();
        for (name, value) in &self.fields {
            let name = name.to_ascii_lowercase();
            match name.as_str() {
                "host" => fields.insert(2, (":authority".to_owned(), value.clone())),
                "transfer-encoding" => {
                    body.clear();
                    let decoded = BodyDecoder::new(Framing::Chunked).feed(&self.body, &mut body);
                    decoded.expect("chunks");
                }
                _ => fields.push((name, value.clone())),
            }
        }
        (fields, body)
    }

    /// Was it made by `new("HEAD", …)`?
    pub fn is_head(&self) -> bool {
        self.line.starts_with("HEAD ")
    }
}
