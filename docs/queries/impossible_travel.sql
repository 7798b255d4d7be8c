-- Who moved faster than an airliner?
-- Look at the distance as well as the speed: a few kilometres in seconds are two antennas, thousands are two people.
SELECT
  user_id,
  event_time,
  event_type,
  country,
  ip,
  ROUND(travel_km) AS travel_km,
  ROUND(travel_speed_kmh) AS travel_speed_kmh,
  ROUND(seconds_since_last_event / 60, 1) AS minutes_since_last_event,
  is_new_device,
  action
FROM fraud.latest_scores
WHERE travel_speed_kmh > 900 AND travel_km > 100
ORDER BY travel_speed_kmh DESC, event_time, user_id
LIMIT 50
