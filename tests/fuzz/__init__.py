"""The fuzz: schemathesis over the deployed stack, by the API's own OpenAPI document (S21).

    make fuzz                                # 10 minutes, a random seed
    python -m fuzz --minutes 3 --seed 7

A stack of its own is called in passes (`passes`), each a run of schemathesis in a process of its
own. Two tenants are signed in, one after the other, with all checks and stateful links; then come
those who don't belong: without a token, with an expired one, with too few scopes, and a stranger
who knows another tenant's ids (`hooks` says what they have to be told). What schemathesis takes
for a failure and is none stands in `exceptions`, by name and with the reason.
"""
