-- Only ever appended to: ids from :first on, a random UUID, a JSON payload.
BEGIN;
SELECT setseed(0.3 + :day * 0.0001) \g /dev/null
CREATE TABLE IF NOT EXISTS events (
    id bigint NOT NULL,
    uuid uuid NOT NULL,
    user_id bigint NOT NULL,
    kind text NOT NULL,
    happened_at timestamptz NOT NULL,
    payload jsonb NOT NULL
) WITH (autovacuum_enabled = off);
INSERT INTO events
SELECT :first + n, md5(random()::text)::uuid, 1 + ((:users - 1) * power(random(), 2))::bigint, kind,
    timestamptz '2026-01-01 UTC' + interval '1 day' * :day + interval '1 second' * (n * 86000.0 / :rows)
        + interval '1 millisecond' * (random() * 900)::int,
    jsonb_build_object('source', (ARRAY['web', 'ios', 'android', 'api'])[1 + (random() * 3)::int],
        'path', '/shop/' || kind || '/' || (5000 * power(random(), 3))::int,
        'referrer', (ARRAY['https://search.example/results', 'https://news.example/today', 'direct'])[1 + (random() * 2)::int],
        'session', substr(md5((n / 6)::text), 1, 16), 'duration_ms', (4000 * power(random(), 4))::int,
        'client', (ARRAY['Firefox/128.0 (Linux x86_64)', 'Chrome/126.0 (Windows NT 10.0)', 'Safari/17.5 (Mac OS X 14.5)'])
            [1 + (random() * 2)::int])
FROM (
    SELECT n, (ARRAY['view', 'view', 'search', 'basket', 'checkout', 'login'])[1 + (random() * 5)::int] AS kind
    FROM generate_series(0, :rows - 1) AS n
    OFFSET 0
) AS drawn;
COMMIT;
