"""Who makes the roles and users: on a server without any, and on one that a superuser owned."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from infra.local.environments import ROOT
from infra.local.keys import Login
from infra.local.layout import Layout
from infra.local.logins import hand_over, make_logins
from infra.local.parts.postgres import Postgres
from infra.migrate import MIGRATIONS, migrate
from real_parts import DEADLINE_SECONDS, execute, free_port, running, superuser

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNERS = """
    SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()
    UNION SELECT pg_get_userbyid(relowner) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
    UNION SELECT pg_get_userbyid(proowner) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    UNION SELECT pg_get_userbyid(typowner) FROM pg_type
        WHERE typnamespace = 'public'::regnamespace
"""


@pytest.fixture
def old_database(own_database_url: sa.URL) -> Iterator[sa.URL]:
    """As the release before left it: a superuser made all of it, and functions were that user."""
    engine = sa.create_engine(own_database_url, poolclass=sa.NullPool)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public AUTHORIZATION pg_database_owner"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    make = "INSERT INTO pipelines (name, mode, workflow_name) VALUES ('daily', 'BATCH', 'w')"
    execute(own_database_url, make)
    yield own_database_url
    for user in ("heir", "api_login"):
        own = f"{user}_of_{own_database_url.database}"
        execute(own_database_url, f"DROP OWNED BY {own} CASCADE")
        superuser = own_database_url.username
        execute(
            own_database_url, f"ALTER DATABASE {own_database_url.database} OWNER TO {superuser}"
        )
        execute(own_database_url, f"DROP ROLE {own}")


@pytest.fixture
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """A server where nobody has migrated anything, by its superuser."""
    layout = Layout(tmp_path_factory.mktemp("bare"))
    server = Postgres(
        layout=layout,
        environment=os.environ,
        port=free_port(),
        password=secrets.token_hex(16),
        owner_password=secrets.token_hex(16),
    )
    with running(server, layout) as real:
        yield superuser(real)


def text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


def column(url: sa.URL, statement: str) -> list[object]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.scalars(sa.text(statement)))


def test_s12_f44_a_superusers_database_is_handed_over_and_goes_on(
    old_database: sa.URL, postgres_url: sa.URL
) -> None:
    name = old_database.database
    heir = old_database.set(username=f"heir_of_{name}", password="p")  # noqa: S106
    login = Login(user=f"api_login_of_{name}", password="q", role="api")  # noqa: S106

    for _ in range(2):
        hand_over(text(old_database), text(heir))
        migrate(text(heir))
    # Of roles that exist already somebody else is the administrator.
    execute(postgres_url, f"GRANT api TO heir_of_{name} WITH ADMIN TRUE")
    make_logins(text(heir), [login])

    assert column(heir, OWNERS) == [heir.username]
    assert column(heir, "SELECT name FROM pipelines") == ["daily"]
    assert column(heir, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [False]
    api = sa.make_url(login.url(text(heir)))
    assert column(api, "SELECT name FROM pipelines") == []


def test_s12_a_migration_by_who_may_not_make_roles_tells_what_an_administrator_has_to_run(
    bare_server: sa.URL,
) -> None:
    execute(bare_server, "CREATE ROLE plain LOGIN PASSWORD 'p'")
    execute(bare_server, "CREATE DATABASE plain OWNER plain")
    plain = bare_server.set(username="plain", password="p", database="plain")  # noqa: S106

    told = r"user plain may not .* CREATE ROLE api NOLOGIN; CREATE ROLE poller NOLOGIN;"
    with pytest.raises(PermissionError, match=told):
        migrate(text(plain))
    assert column(plain, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    for role in ("api", "poller"):
        execute(bare_server, f"CREATE ROLE {role} NOLOGIN")
    migrate(text(plain))

    assert column(plain, "SELECT max(version_num) FROM alembic_version") >= ["0003"]


def test_s12_a_migration_tells_of_users_that_read_tables_and_belong_to_no_role(
    bare_server: sa.URL,
) -> None:
    database = bare_server.set(database="watched")
    execute(bare_server, "CREATE DATABASE watched")
    migrate(text(database))
    for statement in (
        "CREATE ROLE readers NOLOGIN",
        "GRANT SELECT ON pipeline_runs TO readers",
        'CREATE ROLE "old release" LOGIN',
        'GRANT SELECT ON pipeline_runs TO "old release"',
        "CREATE ROLE by_group LOGIN IN ROLE readers",
        "CREATE ROLE the_api LOGIN IN ROLE api, readers",
        "CREATE ROLE the_poller LOGIN IN ROLE poller",
        "CREATE ROLE backup LOGIN BYPASSRLS IN ROLE readers",
        "CREATE ROLE stranger LOGIN",
    ):
        execute(database, statement)

    told = migrate(text(database))

    grants = ["GRANT poller TO by_group", 'GRANT poller TO "old release"']
    assert [warning.partition("run: ")[2] for warning in told] == [f"{one};" for one in grants]
    for grant in grants:
        execute(database, grant)
    assert migrate(text(database)) == []


def test_s12_the_command_warns_of_such_users_and_succeeds(bare_server: sa.URL) -> None:
    database = bare_server.set(database="warned")
    execute(bare_server, "CREATE DATABASE warned")
    migrate(text(database))
    execute(database, "CREATE ROLE reader LOGIN")
    execute(database, "GRANT SELECT ON pipeline_runs TO reader")

    command = [sys.executable, "-m", "infra.migrate", text(database)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)

    assert done.stdout == "The database has the newest schema.\n"
    [warning] = done.stderr.splitlines()
    assert warning.startswith("warning: database user reader ")
    assert warning.endswith("GRANT poller TO reader;")


def test_databases_of_one_server_that_are_migrated_at_once_share_the_roles(
    bare_server: sa.URL,
) -> None:
    databases = [bare_server.set(database=f"clone_{number}") for number in range(3)]
    for database in databases:
        execute(bare_server, f"CREATE DATABASE {database.database}")

    migrations = [
        subprocess.Popen([sys.executable, "-m", "infra.migrate", text(database)], cwd=ROOT)
        for database in databases
    ]

    assert [one.wait(DEADLINE_SECONDS) for one in migrations] == [0, 0, 0]
    roles = "SELECT rolname FROM pg_roles WHERE rolname IN ('api', 'poller') ORDER BY 1"
    assert column(bare_server, roles) == ["api", "poller"]
    for database in databases:
        assert column(database, "SELECT has_table_privilege('poller', 'poll_shards', 'UPDATE')")
