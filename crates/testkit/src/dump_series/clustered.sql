-- A batch job: a hundredth of the orders, all of one range, which moves from day to day.
UPDATE orders SET status = 'archived', updated_at = timestamptz '2026-01-01 UTC' + interval '1 day' * :day
WHERE id > :orders * (:day * 37 % 100) / 100 AND id <= :orders * (:day * 37 % 100 + 1) / 100;
