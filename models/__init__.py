"""The zoo: small trained float models with their data, and the recipes that make them."""
