-- A day of the shop in SQLite: :day counts from 1. The high bits of a multiplied id are as good as random.
BEGIN;
UPDATE users SET login_count = login_count + 1, last_login_at = '2026-01-01 00:00:00+00'
WHERE ((id + :day) * 2654435761 >> 16) % 100 = 0;
UPDATE orders SET status = 'returned', updated_at = '2026-01-01 00:00:00+00'
WHERE ((id + :day) * 2654435761 >> 16) % 200 = 0;
DELETE FROM events WHERE ((id + :day) * 2654435761 >> 16) % 1000 = 0;
INSERT INTO events (id, uuid, user_id, kind, happened_at, payload)
SELECT (SELECT max(id) FROM events) + row_number() OVER (), substr(uuid, 20) || substr(uuid, 1, 19), user_id, kind,
    '2026-01-01 00:00:00+00', payload
FROM events WHERE ((id + :day) * 2654435761 >> 16) % 50 = 1;
COMMIT;
