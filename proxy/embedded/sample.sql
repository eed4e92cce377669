CREATE TABLE airports (
    icao         text PRIMARY KEY,
    iata         text UNIQUE,
    name         text NOT NULL,
    city         text NOT NULL,
    subdivision  text NOT NULL,
    country      text NOT NULL,
    elevation_ft double precision NOT NULL,
    latitude     double precision NOT NULL,
    longitude    double precision NOT NULL,
    time_zone    text NOT NULL
)
