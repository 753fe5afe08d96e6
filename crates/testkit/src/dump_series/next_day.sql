-- A day of a shop: :day counts from 1. Each table is scanned in one order, so the same rows are hit every time.
SET max_parallel_workers_per_gather = 0;
SET synchronize_seqscans = off;
SELECT setseed(0.5 + :day * 0.0001) \g /dev/null
UPDATE users SET login_count = login_count + 1,
    last_login_at = timestamptz '2026-01-01 UTC' + interval '1 day' * (:day + random()),
    settings = CASE WHEN random() < 0.2 THEN jsonb_set(settings, '{theme}', '"high contrast"') ELSE settings END
WHERE random() < 0.01;
UPDATE orders SET status = 'returned', updated_at = timestamptz '2026-01-01 UTC' + interval '1 day' * (:day + random())
WHERE random() < 0.005;
DELETE FROM events WHERE random() < 0.001;
