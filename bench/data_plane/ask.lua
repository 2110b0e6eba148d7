-- What wrk asks, and how it says what came of it. The body is the first argument; `wrk.lua` documents the tables.

function init(arguments)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = arguments[1]
end

-- One line of JSON, the last of the output: times in microseconds, exactly, where wrk's own words are rounded.
function done(summary, latency)
  local errors = summary.errors
  local line = '{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"refused":%d,"broken":%d}\n'
  io.write(line:format(summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
