//! What a request asks of the upstream. It travels in the request's body, which a gateway forwards untouched, so that
//! the upstream needs no path or header of its own and both ends know every byte of what the other must send.

use memchr::memmem;

/// Which answer is wanted, and under which identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Comes back in every part of the answer: an answer that went to the wrong client is found out.
    pub id: u64,
    /// The form of the answer.
    pub shape: Shape,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One JSON document.
    Json {
        /// Its length.
        body_bytes: u32,
    },
    /// A stream of server-sent events.
    Sse {
        /// Text deltas; one `response.created` goes before and one `response.completed` after them.
        deltas: u32,
        /// Length of the data of one delta.
        payload_bytes: u32,
        /// Thousandths of an event per second; 0 is as fast as possible.
        millirate: u32,
    },
}

const HEAD: &str = r#"{"model":"bench-model","stream":"#;
const AFTER_STREAM: &str = r#","metadata":{"bench":""#;
const TAIL: &str = concat!(
    r#""},"max_output_tokens":4096,"store":false,"input":[{"role":"developer","content":[{"type":"input_text","#,
    r#""text":"Answer briefly and keep to the facts that were given."}]},{"role":"user","content":"#,
    r#"[{"type":"input_text","text":"The harbour master wrote down each ship that came in during the week, "#,
    r#"with its length, its cargo and the hour at which the pilot went aboard. Which of the ships came in "#,
    r#"after sunset, and which of these carried grain? List them by the hour of their arrival."}]}]}"#
);
/// Further than this into a body the plan cannot begin.
const SEARCH_BYTES: usize = 128;

impl Plan {
    /// The body of a request for this plan. Its length depends on the kind of shape alone.
    #[must_use]
    pub fn request_body(&self) -> Vec<u8> {
        let (stream, plan) = match self.shape {
            Shape::Json { body_bytes } => {
                ("false", format!("json {:016x} {body_bytes:08}", self.id))
            }
            Shape::Sse {
                deltas,
                payload_bytes,
                millirate,
            } => (
                "true",
                format!(
                    "sse {:016x} {deltas:08} {payload_bytes:08} {millirate:08}",
                    self.id
                ),
            ),
        };
        [HEAD, stream, AFTER_STREAM, &plan, TAIL]
            .concat()
            .into_bytes()
    }

    /// Reads the plan out of a request's body and checks every other byte of it.
    ///
    /// # Errors
    /// Says what is wrong with the body.
    pub fn from_request_body(body: &[u8]) -> Result<Self, String> {
        let within = &body[..body.len().min(SEARCH_BYTES)];
        let start = memmem::find(within, AFTER_STREAM.as_bytes())
            .ok_or("the request's body holds no plan")?
            + AFTER_STREAM.len();
        let length = memchr::memchr(b'"', &body[start..]).ok_or("the plan has no end")?;
        let plan = std::str::from_utf8(&body[start..start + length])
            .ok()
            .and_then(Self::parse)
            .ok_or("the plan cannot be read")?;
        let stream = match plan.shape {
            Shape::Json { .. } => "false",
            Shape::Sse { .. } => "true",
        };
        let head = &body[..start - AFTER_STREAM.len()];
        let untouched = head.strip_prefix(HEAD.as_bytes()) == Some(stream.as_bytes())
            && &body[start + length..] == TAIL.as_bytes();
        if untouched {
            Ok(plan)
        } else {
            Err("the request's body is not the one that was sent".into())
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let kind = words.next()?;
        let id = u64::from_str_radix(words.next()?, 16).ok()?;
        let mut number = || words.next()?.parse::<u32>().ok();
        let shape = match kind {
            "json" => Shape::Json {
                body_bytes: number()?,
            },
            "sse" => Shape::Sse {
                deltas: number()?,
                payload_bytes: number()?,
                millirate: number()?,
            },
            _ => return None,
        };
        words.next().is_none().then_some(Self { id, shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANS: [Plan; 2] = [
        Plan {
            id: 0x0123_4567_89ab_cdef,
            shape: Shape::Json { body_bytes: 1_024 },
        },
        Plan {
            id: 7,
            shape: Shape::Sse {
                deltas: 300,
                payload_bytes: 200,
                millirate: 30_000,
            },
        },
    ];

    #[test]
    fn body_is_json_of_the_promised_size_and_gives_the_plan_back() {
        for plan in PLANS {
            let body = plan.request_body();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(json["model"], "bench-model");
            assert_eq!(json["stream"], matches!(plan.shape, Shape::Sse { .. }));
            assert!((550..750).contains(&body.len()), "{}", body.len());
            assert_eq!(Plan::from_request_body(&body), Ok(plan));
        }
    }

    #[test]
    fn no_byte_can_change_unseen() {
        for plan in PLANS {
            let body = plan.request_body();
            for at in 0..body.len() {
                let mut changed = body.clone();
                changed[at] ^= 1;
                assert_ne!(Plan::from_request_body(&changed), Ok(plan), "byte {at}");
            }
            assert!(Plan::from_request_body(&body[..body.len() - 1]).is_err());
            assert!(Plan::from_request_body(&[&body[..], b"\n"].concat()).is_err());
        }
    }
}
