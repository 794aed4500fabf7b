"""What a source can hold at its worst: secrets in every dress, and texts that try to be more than text."""

from __future__ import annotations

from hypothesis import strategies as st

SECRETS = (
    # (as it stands in a text, what must not be seen of it)
    ("Authorization: Bearer q9XvTz", "q9XvTz"),
    ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("Bearer Zx81kkP0aa", "Zx81kkP0aa"),
    ("access_token=tok_plain", "tok_plain"),
    ('"access_token": "abc\\"zq7def"', "zq7def"),
    ('{\\"refresh_token\\":\\"r-77-esc\\"}', "r-77-esc"),
    ("grant_type=x&client_secret=letmein&client_id=my-app-id", "letmein"),
    ("client_id=my-app-id&x=1", "my-app-id"),
    ("'client_secret' => 'sesame'", "sesame"),
    ("[client_secret] => sesame", "sesame"),
    ("password: hunt3r", "hunt3r"),
    ("Password = 'correct horse battery'", "horse"),
    ("access_token_preview: startoftok", "startoftok"),
    ("api_key=k0rz", "k0rz"),
    ("apiKey:'k-1q'", "k-1q"),
    ("&quot;password&quot;:&quot;opensesame&quot;", "opensesame"),
    ("client_secret%3Dpct-secret", "pct-secret"),
    ("ST-App-Key: ak-mine", "ak-mine"),
    ("ak1.abcdefghijklmnop", "abcdefghijklmnop"),
    ("cs1.qrstuvwxyzabcdef", "qrstuvwxyzabcdef"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJzdWIiOiIxIn0"),
    ("xoxb-123456789-abcdef", "123456789-abcdef"),
    ("xoxp-abcdef-999", "abcdef-999"),
    ("xapp-1-A0B1C2-33", "A0B1C2"),
    ("https://hooks.slack.com/services/T000/B000/XXXX", "B000"),
    ("hooks.slack.com/services/T111/B111/YYYY", "B111"),
    ("https://discord.com/api/webhooks/42/sekrit", "sekrit"),
    ("https://acme.webhook.office.com/webhookb2/77", "webhookb2"),
    ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
    ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "K7MDENG"),
    ("encrypted:AbC123==", "AbC123"),
    ("https://bob:pa55@db.internal/x", "pa55"),
    ("postgresql://app:sl/ash@db:5432/hub", "sl/ash"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEv\nQIBAD\n-----END PRIVATE KEY-----", "QIBAD"),
    ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "9f86d081884c7d65"),
    ("Tq3vR8xZ1mK9wY5cN7bL2hJ4", "Tq3vR8xZ1mK9"),
    ("xo\u200bxb-987654321-zz", "987654321"),
    ("pass\u202eword=ghost", "ghost"),
    ("Cookie: PHPSESSID=abc123; theme=dark", "abc123"),
    ("mail jane.doe@example.com", "jane.doe"),
    ("call (555) 123-4567", "123-4567"),
    ("phoneNumber: 5559876543", "5559876543"),
)

HOSTILE = (
    "<!channel>",
    "<!here|here>",
    "<@U123>",
    "<#C123|general>",
    "<https://evil.example|click me>",
    "{{ 7*7 }}",
    "{% for x in ().__class__.__mro__ %}x{% endfor %}",
    "${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</title></style><b>",
    "\" onmouseover='x' style=\"",
    "*bold* _it_ ~no~ `code` ```fence```",
    "a | b || c",
    "> quote\n# head\n- list",
    "line\r\nBcc: all@example.com\r\n\r\nbody",
    "=?utf-8?b?WA0KQmNjOiBlQHgueQ==?=",
    "\x00\x07\x1b[31mred\x1b[0m",
    "\u202egnirts desrever\u202c \u2066iso\u2069 \ufeff\u200b",
    "\ud800 lone surrogate \udfff",
    "&amp; &lt;script&gt; &#60;b&#62;",
    "🔥" * 300,
    "=cmd|' /C calc'!A0",
    "%3C!channel%3E",
    "W" * 5_000,
    "&" * 5_000,
    "",
)

neighbours = st.sampled_from(("", " ", "\n", "(", '"', ",", "x", "<", "&", "failed: ", "é", "‹redacted›")) | st.text(
    max_size=8
)

embedded_secrets = st.tuples(neighbours, st.sampled_from(SECRETS), neighbours)
"""(before, (text, secret), after)."""

# Hypothesis also draws strings that stand in our own modules: a secret without what marks it as one is no secret.
_free_text = st.text(max_size=60).filter(lambda text: not any(secret in text for _, secret in SECRETS))
_known = st.sampled_from(HOSTILE) | st.sampled_from([text for text, _ in SECRETS])

untrusted = _known | _free_text | st.lists(_known, min_size=1, max_size=4).map(" ".join)
"""Any text that a column of the source may hold."""
