"""`sluicegate demo`: a server with small models, an issuer, a policy, and a tour of them that checks itself."""
