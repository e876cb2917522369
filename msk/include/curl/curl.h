/* Empty on purpose. librdkafka 2.12.1, built by CMake, includes <curl/curl.h> even when curl is
 * off (it asks `#ifdef WITH_OAUTHBEARER_OIDC` of a macro that CMake always defines; fixed in
 * librdkafka 2.15.0, issue #5135). headwater does not use curl: an empty header satisfies the
 * include and nothing is linked. `.cargo/config.toml` puts this folder on the include path.
 * Remove both when rdkafka-sys bundles librdkafka 2.15 or later. */
