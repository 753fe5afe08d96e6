-- Maintenance: every table is written anew, and rows that updates had moved go back to their place.
CLUSTER users USING users_pkey;
CLUSTER orders USING orders_pkey;
VACUUM FULL;
