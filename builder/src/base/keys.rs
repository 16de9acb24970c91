//! The public keys of Debian's archive and the check of a signed text (RFC 9580 §7, cleartext signatures).

use pgp::composed::CleartextSignedMessage;
use pgp::composed::Deserializable;
use pgp::composed::SignedPublicKey;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::Signature;
use pgp::types::Tag;
use pgp::types::VerifyingKey;

use crate::model::timestamp::Timestamp;

/// Signs the main archive.
pub(super) const ARCHIVE: &[&[u8]] = &[
    include_bytes!("../../data/debian-archive-keys/debian-archive-trixie-automatic.gpg"),
    include_bytes!("../../data/debian-archive-keys/debian-archive-trixie-stable.gpg"),
];
/// Signs the security archive.
pub(super) const SECURITY: &[&[u8]] = &[include_bytes!(
    "../../data/debian-archive-keys/debian-archive-trixie-security-automatic.gpg"
)];

/// How far a signature may be ahead of this machine's clock, in seconds.
const CLOCK_SLACK: i64 = 24 * 60 * 60;

/// The text of `signed`, if one of `keys` signed it, and both key and signature hold at `now`; else why not.
///
/// Only what is inside the signed part is given back: what stands before or after it is nobody's word.
pub(super) fn signed_text(signed: &str, keys: &[&[u8]], now: Timestamp) -> Result<String, String> {
    let (message, _headers) = CleartextSignedMessage::from_string(signed)
        .map_err(|error| format!("it is no signed text: {error}"))?;
    let text = message.signed_text();
    let mut reason = "it has no signature of a known key".to_owned();
    for key in keys {
        let key =
            SignedPublicKey::from_bytes(*key).map_err(|error| format!("a key cannot be read: {error}"))?;
        for signature in message.signatures() {
            match check(&key, signature, text.as_bytes(), now) {
                Verdict::Good => return Ok(text.replace("\r\n", "\n")),
                Verdict::Bad(why) => reason = why,
                Verdict::OtherKey => {}
            }
        }
    }
    Err(reason)
}

enum Verdict {
    Good,
    Bad(String),
    OtherKey,
}

fn check(key: &SignedPublicKey, signature: &Signature, text: &[u8], now: Timestamp) -> Verdict {
    let primary = check_with(&key.primary_key, &own_signatures(key), signature, text, now);
    if !matches!(primary, Verdict::OtherKey) {
        return primary;
    }
    let subkeys = key
        .public_subkeys
        .iter()
        .filter(|subkey| subkey.verify_bindings(&key.primary_key).is_ok());
    let mut verdicts = subkeys.map(|subkey| {
        let bindings: Vec<_> = subkey.signatures.iter().collect();
        check_with(&subkey.key, &bindings, signature, text, now)
    });
    verdicts
        .find(|verdict| !matches!(verdict, Verdict::OtherKey))
        .unwrap_or(Verdict::OtherKey)
}

/// What the primary key says of itself. The key files have other people's signatures too, which say nothing here.
fn own_signatures(key: &SignedPublicKey) -> Vec<&Signature> {
    let primary = &key.primary_key;
    let of_users = key.details.users.iter().flat_map(|user| {
        let own = |signature: &&Signature| {
            signature
                .verify_certification(primary, Tag::UserId, &user.id)
                .is_ok()
        };
        user.signatures.iter().filter(own)
    });
    let direct = key
        .details
        .direct_signatures
        .iter()
        .filter(|signature| signature.verify_key(primary).is_ok());
    of_users.chain(direct).collect()
}

/// Checks one signature with one key, whose own signatures say what it may do and until when.
fn check_with(
    key: &impl VerifyingKey,
    own: &[&Signature],
    signature: &Signature,
    text: &[u8],
    now: Timestamp,
) -> Verdict {
    let names_key = signature.issuer_fingerprint().contains(&&key.fingerprint())
        || signature.issuer_key_id().contains(&&key.legacy_key_id());
    if !names_key {
        return Verdict::OtherKey;
    }
    if !own.iter().any(|signature| signature.key_flags().sign()) {
        return Verdict::Bad("the key that signed may not sign".to_owned());
    }
    let strong = matches!(
        signature.hash_alg(),
        Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)
    );
    if !strong {
        return Verdict::Bad("its hash is too weak".to_owned());
    }
    let made = i64::from(key.created_at().as_secs());
    let ends = |lifetime: Option<pgp::types::Duration>, from: i64| {
        lifetime
            .map(|lifetime| from + i64::from(lifetime.as_secs()))
            .filter(|end| *end > from)
    };
    if own
        .iter()
        .filter_map(|own| ends(own.key_expiration_time(), made))
        .any(|end| end < now.0)
    {
        return Verdict::Bad("the key that signed has expired".to_owned());
    }
    let Some(signed) = signature.created().map(|time| i64::from(time.as_secs())) else {
        return Verdict::Bad("the signature has no date".to_owned());
    };
    if signed > now.0.saturating_add(CLOCK_SLACK) {
        return Verdict::Bad(format!("the signature is from the future, {}", Timestamp(signed)));
    }
    if ends(signature.signature_expiration_time(), signed).is_some_and(|end| end < now.0) {
        return Verdict::Bad("the signature has expired".to_owned());
    }
    match signature.verify(key, text) {
        Ok(()) => Verdict::Good,
        // What it says more is the values that differ.
        Err(_) => Verdict::Bad("the signature does not fit the text".to_owned()),
    }
}
