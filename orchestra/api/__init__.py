"""Orchestra's API: what requests go through, and what stands behind the client."""
