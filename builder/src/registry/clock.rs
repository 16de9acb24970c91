//! What time a registry says it is: the `Date` of its answers (RFC 9110 §6.6.1).

use reqwest::Method;
use reqwest::header::DATE;

use crate::model::reference::ImageReference;
use crate::model::timestamp::Timestamp;
use crate::registry::client::Registry;
use crate::registry::error::RegistryError;

impl Registry {
    /// The registry's time; none if it says none that can be read. It is asked without credentials.
    pub async fn time(&self, reference: &ImageReference) -> Result<Option<Timestamp>, RegistryError> {
        let host = reference.registry_host();
        let url = format!("{}://{host}/v2/", self.scheme(host));
        let response = self.http.send(|| self.http.request(Method::GET, &url)).await?;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(read))
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn read(date: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(Timestamp(zoned.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(
            read("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Timestamp(784_111_777))
        );
        assert_eq!(read("yesterday"), None);
    }
}
