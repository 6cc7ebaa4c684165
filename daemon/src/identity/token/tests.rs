mod corpus;
mod genuine;
mod issuer;
mod stage;
