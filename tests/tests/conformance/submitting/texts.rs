//! Texts: none that a client can send breaks a store.

use jobqueue_store::{NewJob, Notification};

use crate::{
    scenarios,
    store_fixture::{StoreFixture, job, keyed, session},
};

scenarios!(
    names_of_any_characters_and_full_length_work,
    hostile_errors_are_kept_as_text,
    an_escaped_nul_in_json_comes_back_as_it_was,
    texts_of_full_length_are_kept,
);

async fn names_of_any_characters_and_full_length_work(fixture: &StoreFixture) {
    let names = [
        "w".repeat(100),
        "😀".repeat(25),
        "\u{10ffff}".repeat(25),
        "Ünï/cödé.名前".to_owned(),
        "' OR 1=1; --".to_owned(),
        "\\\"%_${}[]*?".to_owned(),
        " ".to_owned(),
        "-".to_owned(),
    ];
    for name in &names {
        let id = fixture.submit(NewJob { task: name.clone(), ..keyed(name, name, 1) }).await;
        let session = fixture.register(session(name)).await;
        let leased = session.acquire_one().await;
        assert_eq!((leased.job.id, &leased.job.worker_id, &leased.job.task), (id, name, name));
        session.complete(leased.lease).await;
        assert_eq!(fixture.tally(name).await, [0, 0, 1, 0, 0], "{name}");
        assert!(fixture.submit_or_known(NewJob { task: name.clone(), ..keyed(name, name, 1) }).await.deduplicated);
        fixture.store.announce(&[Notification::Runnable(name.clone())]).await.unwrap();
    }
}

async fn hostile_errors_are_kept_as_text(fixture: &StoreFixture) {
    let errors = [
        "<script>alert(1)</script>",
        "'; DROP TABLE jobs; --",
        "line 1\nline 2\r\n\ttab \u{1b}[31mred\u{7}",
        "e\u{301} 😀 \u{202e}right to left \u{feff}",
        "100 % of $1 {} \\x00 \\",
    ];
    for error in errors {
        let id = fixture.submit(NewJob { max_retries: 1, ..job("w") }).await;
        let session = fixture.session("w").await;
        session.fail(session.acquire_one().await.lease, error).await;
        assert_eq!(fixture.get(id).await.last_error, error);
        assert_eq!(fixture.attempts(id).await[0].error, error);
    }
}

async fn an_escaped_nul_in_json_comes_back_as_it_was(fixture: &StoreFixture) {
    let json = r#"{"a\u0000b":"\u0000\uD83D\uDE00"}"#;
    let id = fixture.submit(NewJob { payload: json.to_owned(), ..job("w") }).await;
    let session = fixture.session("w").await;
    session.complete_with(session.acquire_one().await.lease, json).await;
    let found = fixture.get(id).await;
    assert_eq!((found.payload.as_str(), found.result.as_deref()), (json, Some(json)));
}

async fn texts_of_full_length_are_kept(fixture: &StoreFixture) {
    let error = "€".repeat(8 * 1024 / 3);
    let result = format!("\"{}\"", "x".repeat(64 * 1024 - 2));
    let reason = "ü".repeat(512);
    let ids = fixture.submit_all(vec![NewJob { max_retries: 1, ..job("w") }; 3]).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(3).await;
    session.fail(leased[0].lease, &error).await;
    session.complete_with(leased[1].lease, &result).await;
    fixture.store.cancel(&ids[2..], &reason).await.unwrap();
    assert_eq!(fixture.get(ids[0]).await.last_error, error);
    assert_eq!(fixture.get(ids[1]).await.result.as_ref(), Some(&result));
    assert_eq!(fixture.get(ids[2]).await.note, reason);
}
