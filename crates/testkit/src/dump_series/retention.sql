-- What is too old goes: the oldest events, half a percent of those of the first day.
DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id OFFSET :events / 200 LIMIT 1);
