use futures_util::FutureExt;
use tidings_core::time::DAY_MILLIS;
use tidings_protocol::account::PasswordChange;

use super::*;

#[tokio::test]
async fn a_revoked_device_is_out_at_once() {
    let world = World::new();
    let first = world.sign_up("ada").await.unwrap();
    let second = world.log_in("ada", "correct horse").await.unwrap();
    let mallory = world.sign_up("mallory").await.unwrap();
    let session = world.open(caller(&second));
    assert_eq!(
        world.users.authenticate(token(&second)).await,
        Ok(caller(&second))
    );

    let not_mine = world
        .users
        .revoke_device(caller(&mallory), second.device)
        .await;
    assert_eq!(refused(not_mine), Code::NotFound);
    assert_eq!(session.closed(), None);

    world
        .users
        .revoke_device(caller(&first), second.device)
        .await
        .unwrap();
    assert_eq!(
        refused(world.users.authenticate(token(&second)).await),
        Code::Unauthorized
    );
    assert_eq!(session.closed(), Some(Code::Revoked));
    let devices = world.users.devices(caller(&first)).await.unwrap().devices;
    assert_eq!(devices.len(), 1);
    assert!(devices[0].current);
    assert_eq!(devices[0].name, "first");
    let again = world
        .users
        .revoke_device(caller(&first), second.device)
        .await;
    assert_eq!(refused(again), Code::NotFound);
    let restarted = world.restart(quick());
    assert_eq!(
        refused(restarted.users.authenticate(token(&second)).await),
        Code::Unauthorized
    );

    world.users.log_out(caller(&first)).await.unwrap();
    assert_eq!(
        refused(world.users.authenticate(token(&first)).await),
        Code::Unauthorized
    );
}

#[tokio::test]
async fn a_revocation_goes_on_when_who_asked_hangs_up() {
    let world = World::new();
    let ada = world.sign_up("ada").await.unwrap();
    assert!(world.users.authenticate(token(&ada)).await.is_ok());
    let asked = world.users.log_out(caller(&ada)).now_or_never();
    assert_eq!(asked, None, "begun, and dropped");
    while world.users.authenticate(token(&ada)).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_new_password_logs_out_all_others() {
    let world = World::new();
    let first = world.sign_up("ada").await.unwrap();
    let second = world.log_in("ada", "correct horse").await.unwrap();
    let sessions = [world.open(caller(&first)), world.open(caller(&second))];
    let change = |old: &str, new: &str| PasswordChange {
        old_password: old.to_owned(),
        new_password: new.to_owned(),
    };
    let wrong = change("wrong horse", "battery staple");
    let refusal = world.users.change_password(caller(&first), wrong).await;
    assert_eq!(refused(refusal), Code::WrongCredentials);
    let short = change("correct horse", "short");
    assert_eq!(
        refused(world.users.change_password(caller(&first), short).await),
        Code::Invalid
    );

    let right = change("correct horse", "battery staple");
    world
        .users
        .change_password(caller(&first), right)
        .await
        .unwrap();
    assert_eq!(
        world.users.authenticate(token(&first)).await,
        Ok(caller(&first))
    );
    assert_eq!(
        refused(world.users.authenticate(token(&second)).await),
        Code::Unauthorized
    );
    assert_eq!(sessions[0].closed(), None);
    assert_eq!(sessions[1].closed(), Some(Code::Revoked));
    assert_eq!(
        refused(world.log_in("ada", "correct horse").await),
        Code::WrongCredentials
    );
    assert!(world.log_in("ada", "battery staple").await.is_ok());
}

#[tokio::test]
async fn passwords_are_hashed_anew_when_the_parameters_change() {
    let world = World::new();
    let ada = world.sign_up("ada").await.unwrap();
    let stronger = UsersSettings {
        password_memory_kib: 16,
        ..quick()
    };
    let restarted = world.restart(stronger);
    restarted.log_in("ada", "correct horse").await.unwrap();
    let (_, record) = restarted
        .users
        .user_record(ada.profile.user)
        .await
        .unwrap()
        .unwrap();
    assert!(record.password.contains("m=16,"), "{}", record.password);
    assert!(restarted.log_in("ada", "correct horse").await.is_ok());
}

#[tokio::test]
async fn one_device_too_many_is_refused_unless_one_is_long_silent() {
    let world = World::new();
    let first = world.sign_up("ada").await.unwrap();
    let second = world.log_in("ada", "correct horse").await.unwrap();
    let third = world.log_in("ada", "correct horse").await.unwrap();
    let problem = world.log_in("ada", "correct horse").await.unwrap_err();
    assert_eq!(problem, Problem::too_much("devices_per_user_max", 3));

    world.pass(30 * DAY_MILLIS);
    world.users.touch(caller(&first));
    world.users.touch(caller(&third));
    world.log_in("ada", "correct horse").await.unwrap();
    assert_eq!(
        refused(world.users.authenticate(token(&second)).await),
        Code::Unauthorized
    );
    assert!(world.users.authenticate(token(&first)).await.is_ok());
    assert!(world.users.authenticate(token(&third)).await.is_ok());
    assert_eq!(
        refused(world.log_in("ada", "correct horse").await),
        Code::TooMuch
    );
}

#[tokio::test]
async fn last_seen_is_written_late() {
    let world = World::new();
    let ada = world.sign_up("ada").await.unwrap();
    let user = ada.profile.user;
    let created = world.users.last_seen(user).await.unwrap().unwrap();
    world.pass(1_000);
    world.users.touch(caller(&ada));
    let seen = Some(created.plus_millis(1_000));
    assert_eq!(world.users.last_seen(user).await, Ok(seen));
    world.users.write_last_seen(60_000).await;
    let restarted = world.restart(quick());
    assert_eq!(
        restarted.users.last_seen(user).await,
        Ok(Some(created)),
        "not yet"
    );

    world.pass(60_000);
    world.users.write_last_seen(60_000).await;
    let restarted = world.restart(quick());
    assert_eq!(restarted.users.last_seen(user).await, Ok(seen));

    world.users.touch(caller(&ada));
    world.users.flush().await;
    let seen = Some(created.plus_millis(61_000));
    let restarted = world.restart(quick());
    assert_eq!(restarted.users.last_seen(user).await, Ok(seen));
    let name = "phone".to_owned();
    restarted
        .users
        .rename_device(caller(&ada), ada.device, name)
        .await
        .unwrap();
    restarted.users.log_out(caller(&ada)).await.unwrap();
    assert_eq!(
        restarted.users.last_seen(user).await,
        Ok(seen),
        "without the device"
    );
    restarted.users.touch(caller(&ada));
    restarted.users.flush().await;
    assert_eq!(restarted.users.device_records(user).await, Ok(vec![]));
}
