CREATE TABLE IF NOT EXISTS airports (
    icao      text PRIMARY KEY,
    iata      text,
    name      text NOT NULL,
    city      text NOT NULL,
    subdivision text NOT NULL,
    country   text NOT NULL,
    elevation_ft double precision NOT NULL,
    latitude  double precision NOT NULL,
    longitude double precision NOT NULL,
    time_zone text NOT NULL
);
CREATE TABLE IF NOT EXISTS airports_source (version text NOT NULL);
